//! A cluster in memory: the seam done as plainly as it can be, with the same leaf functions that a node calls.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use perennial_sql::answer::{Answer, Done, ResultColumn};
use perennial_sql::arrow::{decode_batch, encode_batch};
use perennial_sql::cluster::{Batches, Cluster, Database, RowWrite, Scan, Sheet, SystemTable, WriteBatch, Written};
use perennial_sql::layout::Layout;
use perennial_sql::leaf::{Change, Scanner, apply};
use perennial_sql::parse::{parse, split};
use perennial_sql::scalar::Ty;
use perennial_sql::schema::{DROPPED, Schema, TABLES, decode_sequence, sequence_key};
use perennial_sql::session::Session;
use perennial_sql::statement::Statement;
use perennial_sql::{Error, Loader, Result, Sweep, apply_set, execute};
use types::key::table_range;
use types::{Datum, Ordinal, TableId};

type Partition = BTreeMap<Bytes, Bytes>;

pub const PARTITIONS: u32 = 4;

#[derive(Default)]
pub struct Memory {
    databases: Mutex<BTreeMap<String, BTreeMap<Ordinal, Partition>>>,
    /// Scans and gets as they were asked for.
    pub asked: Mutex<Vec<String>>,
}

impl Memory {
    pub fn create(&self, name: &str) {
        let mut partitions: BTreeMap<Ordinal, Partition> =
            (0..PARTITIONS as i32).map(|ordinal| (Ordinal(ordinal), Partition::new())).collect();
        partitions.insert(Ordinal::META, Partition::new());
        self.databases.lock().unwrap().insert(name.into(), partitions);
    }

    /// All keys of a partition's reserved or user table.
    pub fn keys(&self, database: &str, ordinal: Ordinal, table: TableId) -> Vec<(Bytes, Bytes)> {
        let (start, end) = table_range(table);
        let databases = self.databases.lock().unwrap();
        databases[database][&ordinal].range(start..end).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn note(&self, text: String) {
        self.asked.lock().unwrap().push(text);
    }
}

#[async_trait]
impl Cluster for Memory {
    async fn databases(&self) -> Result<Vec<String>> {
        Ok(self.databases.lock().unwrap().keys().cloned().collect())
    }

    async fn database(&self, name: &str) -> Result<Database> {
        let databases = self.databases.lock().unwrap();
        let partitions = databases.get(name).ok_or_else(|| Error::unknown_database(name))?;
        let (start, end) = Schema::key_range();
        let rows = partitions[&Ordinal::META].range(start..end).map(|(key, value)| (key.clone(), value.clone()));
        Ok(Database { name: name.into(), partitions: PARTITIONS, schema: Arc::new(Schema::from_rows(rows)?) })
    }

    async fn get(&self, database: &str, ordinal: Ordinal, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>> {
        self.note(format!("get {} of {ordinal}", keys.len()));
        let databases = self.databases.lock().unwrap();
        let partition = &databases[database][&ordinal];
        Ok(keys.iter().map(|key| partition.get(key).cloned()).collect())
    }

    async fn scan(&self, database: &str, ordinal: Ordinal, scan: Scan) -> Result<Batches> {
        let columns: Vec<&str> = scan.projection.iter().map(|place| scan.layout.fields[*place].name.as_str()).collect();
        self.note(format!(
            "scan {}.{ordinal} [{}] filter={} limit={:?}",
            scan.layout.name,
            columns.join(","),
            scan.filter.is_some(),
            scan.limit
        ));
        let databases = self.databases.lock().unwrap();
        let partition = &databases[database][&ordinal];
        let (start, end) = (scan.start.clone(), scan.end.clone());
        let mut scanner = Scanner::new(scan)?;
        let mut batches = Vec::new();
        for (key, value) in partition.range(start..end.clone().max(Bytes::new())) {
            if scanner.is_done() {
                break;
            }
            batches.extend(scanner.push(key, value)?);
        }
        batches.extend(scanner.finish()?);
        // Over the wire and back.
        let batches: Vec<_> = batches.iter().map(|batch| decode_batch(&encode_batch(batch)?)).collect();
        Ok(Box::pin(futures::stream::iter(batches)))
    }

    fn scans_once(&self) {
        self.note("once".into());
    }

    async fn write(&self, database: &str, ordinal: Ordinal, batch: WriteBatch) -> Result<Vec<Written>> {
        let mut databases = self.databases.lock().unwrap();
        let partition = databases.get_mut(database).unwrap().get_mut(&ordinal).unwrap();
        let mut answers = Vec::new();
        for (at, write) in batch.writes.iter().enumerate() {
            let (change, written) = apply(&batch, write, partition.get(write.key()), at as u64 + 1)?;
            match change {
                Change::Keep => {}
                Change::Put(value) => drop(partition.insert(write.key().clone(), value)),
                Change::Delete => drop(partition.remove(write.key())),
            }
            answers.push(written);
        }
        Ok(answers)
    }

    async fn sheet(&self, name: &str) -> Result<Option<Sheet>> {
        let rows = vec![vec![Datum::Int(1), Datum::Text("h:1".into()), Datum::Timestamp(1_700_000_000_084_000)]];
        let (_, columns) = self.system_tables().remove(0);
        Ok((name == "PERENNIAL_LEAVES").then_some(Sheet { columns, rows }))
    }

    fn system_tables(&self) -> Vec<SystemTable> {
        vec![(
            "PERENNIAL_LEAVES",
            vec![("node_id".into(), Ty::Int), ("host".into(), Ty::Text), ("since".into(), Ty::DateTime)],
        )]
    }

    async fn allocate(&self, database: &str, table: TableId, count: u64, at_least: u64) -> Result<u64> {
        let layout = Layout { table: TABLES, name: "sequences".into(), fields: vec![], shard: vec![] };
        let write = RowWrite::Advance { key: sequence_key(table), count, at_least };
        let batch = WriteBatch { layout, zone: Default::default(), strict: true, program: None, writes: vec![write] };
        let written = self.write(database, Ordinal::META, batch).await?;
        decode_sequence(written[0].old.clone().unwrap())
    }
}

/// A session on a cluster in memory.
pub struct Client {
    pub memory: Arc<Memory>,
    cluster: Arc<dyn Cluster>,
    pub session: Session,
    runtime: tokio::runtime::Runtime,
}

/// The columns and rows of an answer.
pub type Table = (Vec<ResultColumn>, Vec<Vec<Datum>>);

impl Client {
    /// Connected to a database `d`, in which `setup` has been run.
    pub fn new(setup: &str) -> Client {
        let memory = Arc::new(Memory::default());
        memory.create("d");
        let mut session = Session::new(7, "root", "localhost");
        session.database = Some("d".into());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let mut client = Client { cluster: memory.clone(), memory, session, runtime };
        for part in split(setup).unwrap() {
            let _ = client.run(&setup[part]).unwrap();
        }
        client
    }

    pub fn run(&mut self, text: &str) -> Result<Result<Table, Done>> {
        let statement = parse(text)?;
        if let Statement::Set(assignments) = &statement {
            apply_set(assignments, &mut self.session)?;
            return Ok(Err(Done::default()));
        }
        let answer = self.runtime.block_on(async {
            match execute(&statement, &self.session, &self.cluster).await? {
                Answer::Done(done) => Ok::<_, Error>(Err(done)),
                Answer::Rows(rows) => {
                    let (columns, env) = (rows.columns.clone(), rows.env.clone());
                    Ok(Ok((columns, rows.collect().await?, env)))
                }
            }
        })?;
        Ok(match answer {
            Ok((columns, rows, env)) => {
                self.session.warnings = env.take_warnings();
                Ok((columns, rows))
            }
            Err(done) => {
                self.session.warnings = done.warnings.clone();
                if done.last_insert_id > 0 {
                    self.session.last_insert_id = done.last_insert_id;
                }
                Err(done)
            }
        })
    }

    /// Rows as text, columns separated by `|`; an error as its number and message.
    pub fn query(&mut self, text: &str) -> Vec<String> {
        match self.run(text) {
            Ok(Ok((columns, rows))) => rows
                .iter()
                .map(|row| {
                    let cell = |(column, value): (&ResultColumn, &Datum)| column.format(value).unwrap_or("NULL".into());
                    columns.iter().zip(row).map(cell).collect::<Vec<_>>().join("|")
                })
                .collect(),
            Ok(Err(done)) => vec![format!("ok {}", done.affected)],
            Err(error) => vec![format!("{} {error}", error.code)],
        }
    }

    /// The same in one line, rows separated by spaces.
    pub fn line(&mut self, text: &str) -> String {
        self.query(text).join(" ; ")
    }

    pub fn columns(&mut self, text: &str) -> Vec<ResultColumn> {
        match self.run(text).unwrap() {
            Ok((columns, _)) => columns,
            Err(done) => panic!("{text} has no rows: {done:?}"),
        }
    }

    pub fn done(&mut self, text: &str) -> Done {
        match self.run(text) {
            Ok(Err(done)) => done,
            Ok(Ok(_)) => panic!("{text} has rows"),
            Err(error) => panic!("{text}: {error}"),
        }
    }

    pub fn warnings(&self) -> Vec<String> {
        self.session.warnings.iter().map(|warning| format!("{} {}", warning.code, warning.message)).collect()
    }

    /// Takes the rows of all dropped tables out; returns how many there were.
    pub fn sweep(&mut self) -> u64 {
        let mut count = 0;
        for (_, definition) in self.memory.keys("d", Ordinal::META, DROPPED) {
            let table = Sweep::of("d", definition).unwrap();
            for ordinal in (0..PARTITIONS as i32).map(Ordinal) {
                let mut from = None;
                loop {
                    let (rows, next) = self.runtime.block_on(table.piece(ordinal, from, &self.cluster)).unwrap();
                    count += rows;
                    from = next;
                    if from.is_none() {
                        break;
                    }
                }
                assert_eq!(self.memory.keys("d", ordinal, table.id()), []);
            }
            self.runtime.block_on(table.forget(&self.cluster)).unwrap();
        }
        assert_eq!(self.memory.keys("d", Ordinal::META, DROPPED), []);
        count
    }

    /// What the cluster was asked since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.memory.asked.lock().unwrap())
    }

    pub fn load(&mut self, text: &str, file: &[u8]) -> Result<Done> {
        let Statement::Load(load) = parse(text)? else { panic!("{text} is no LOAD DATA") };
        self.runtime.block_on(async {
            let mut loader = Loader::begin(&load, &self.session, &self.cluster).await?;
            for piece in file.chunks(100) {
                loader.push(piece).await?;
            }
            loader.finish().await
        })
    }
}
