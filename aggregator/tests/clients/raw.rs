//! A client by hand: packets as bytes, whatever they are.

use aggregator::mysql::constants::Capabilities;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A frame around a payload of less than 2^24 bytes.
pub fn frame(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes[3] = sequence;
    bytes.extend_from_slice(payload);
    bytes
}

/// What this client can do.
pub fn capabilities() -> Capabilities {
    Capabilities::LONG_PASSWORD
        | Capabilities::PROTOCOL_41
        | Capabilities::SECURE_CONNECTION
        | Capabilities::PLUGIN_AUTH
        | Capabilities::LOCAL_FILES
        | Capabilities::MULTI_RESULTS
        | Capabilities::DEPRECATE_EOF
}

/// The payload of a login.
pub fn hello(capabilities: Capabilities, user: &str, proof: &[u8], plugin: &str) -> Vec<u8> {
    let mut bytes = capabilities.0.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 1, 46]);
    bytes.extend_from_slice(&[0; 23]);
    bytes.extend_from_slice(user.as_bytes());
    bytes.extend_from_slice(&[0, proof.len() as u8]);
    bytes.extend_from_slice(proof);
    bytes.extend_from_slice(plugin.as_bytes());
    bytes.push(0);
    bytes
}

/// The number in an error packet.
pub fn error_code(packet: &[u8]) -> Option<u16> {
    match packet {
        [0xff, low, high, b'#', ..] => Some(u16::from_le_bytes([*low, *high])),
        _ => None,
    }
}

/// The client.
pub struct Raw {
    stream: TcpStream,
    capabilities: Capabilities,
}

impl Raw {
    /// Connects and reads nothing.
    pub async fn connect(port: u16) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Raw { stream, capabilities: capabilities() }
    }

    /// Connects as root.
    pub async fn login(port: u16) -> Raw {
        Raw::login_with(port, capabilities()).await
    }

    /// Connects as root, with these capabilities.
    pub async fn login_with(port: u16, capabilities: Capabilities) -> Raw {
        let mut client = Raw { capabilities, ..Raw::connect(port).await };
        client.read().await.expect("a greeting");
        client.send(&frame(1, &hello(capabilities, "root", b"", "mysql_native_password"))).await;
        assert_eq!(client.read().await.expect("an OK")[0], 0);
        client
    }

    /// Sends bytes. The server may have closed its side: that shows in what is read.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _sent_or_closed = self.stream.write_all(bytes).await;
    }

    /// Sends a command.
    pub async fn command(&mut self, payload: &[u8]) {
        self.send(&frame(0, payload)).await;
    }

    /// Sends no more.
    pub async fn shut(&mut self) {
        let _shut_or_closed = self.stream.shutdown().await;
    }

    /// The next packet; `None` when the server has closed the connection.
    pub async fn read(&mut self) -> Option<Vec<u8>> {
        self.read_frame().await.map(|(_, payload)| payload)
    }

    /// The next packet, which must have this sequence number.
    pub async fn read_with_sequence(&mut self, expected: u8) -> Option<Vec<u8>> {
        let (sequence, payload) = self.read_frame().await?;
        assert_eq!(sequence, expected);
        Some(payload)
    }

    async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let header = self.stream.read_u32_le().await.ok()?;
        let mut payload = vec![0; (header & 0xff_ffff) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(((header >> 24) as u8, payload))
    }

    /// Packets until the server closes.
    pub async fn read_to_end(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while let Some(packet) = self.read().await {
            packets.push(packet);
        }
        packets
    }

    /// Bytes until the server closes.
    pub async fn read_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _read_or_reset = self.stream.read_to_end(&mut bytes).await;
        bytes
    }

    /// The packets of a result with rows and no EOF between.
    pub async fn answer(&mut self) -> Vec<Vec<u8>> {
        assert!(self.capabilities.has(Capabilities::DEPRECATE_EOF));
        self.answer_of_columns().await
    }

    /// Packets up to the first that ends a list.
    pub async fn answer_of_columns(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        loop {
            let packet = self.read().await.expect("an answer");
            let is_last = packet[0] == 0xfe || packet[0] == 0xff;
            packets.push(packet);
            if is_last {
                return packets;
            }
        }
    }
}
