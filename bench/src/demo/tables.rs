//! What the demo's database holds: the eight tables of TPC-H, made by `tpchgen` while they are loaded, and two small ones
//! for the client that keeps writing.

use tpchgen::csv::{CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

/// The database of the demo.
pub const DATABASE: &str = "tpch";
/// Its partitions.
pub const PARTITIONS: u32 = 8;

/// Accounts that transfers go between, and what each begins with: the sum over all of them never changes.
pub const ACCOUNTS: u32 = 100;
/// See [`ACCOUNTS`].
pub const BALANCE: u64 = 1_000;

/// Lines of CSV, one a row, without their ends.
pub type Lines = Box<dyn Iterator<Item = String>>;

/// A table of TPC-H.
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Columns and keys, as CREATE TABLE takes them.
    pub columns: &'static str,
    /// Makes its rows for a scale.
    pub lines: fn(f64) -> Lines,
}

/// All eight, small ones first.
pub const TPCH: [Table; 8] = [
    Table {
        name: "region",
        columns: "r_regionkey INT PRIMARY KEY, r_name CHAR(25) NOT NULL, r_comment VARCHAR(152)",
        lines: |scale| Box::new(RegionGenerator::new(scale, 1, 1).iter().map(|row| RegionCsv::new(row).to_string())),
    },
    Table {
        name: "nation",
        columns: "n_nationkey INT PRIMARY KEY, n_name CHAR(25) NOT NULL, n_regionkey INT NOT NULL, \
            n_comment VARCHAR(152)",
        lines: |scale| Box::new(NationGenerator::new(scale, 1, 1).iter().map(|row| NationCsv::new(row).to_string())),
    },
    Table {
        name: "supplier",
        columns: "s_suppkey INT PRIMARY KEY, s_name CHAR(25) NOT NULL, s_address VARCHAR(40) NOT NULL, \
            s_nationkey INT NOT NULL, s_phone CHAR(15) NOT NULL, s_acctbal DECIMAL(15,2) NOT NULL, \
            s_comment VARCHAR(101) NOT NULL",
        lines: |scale| {
            Box::new(SupplierGenerator::new(scale, 1, 1).iter().map(|row| SupplierCsv::new(row).to_string()))
        },
    },
    Table {
        name: "customer",
        columns: "c_custkey INT PRIMARY KEY, c_name VARCHAR(25) NOT NULL, c_address VARCHAR(40) NOT NULL, \
            c_nationkey INT NOT NULL, c_phone CHAR(15) NOT NULL, c_acctbal DECIMAL(15,2) NOT NULL, \
            c_mktsegment CHAR(10) NOT NULL, c_comment VARCHAR(117) NOT NULL",
        lines: |scale| {
            Box::new(CustomerGenerator::new(scale, 1, 1).iter().map(|row| CustomerCsv::new(row).to_string()))
        },
    },
    Table {
        name: "part",
        columns: "p_partkey INT PRIMARY KEY, p_name VARCHAR(55) NOT NULL, p_mfgr CHAR(25) NOT NULL, \
            p_brand CHAR(10) NOT NULL, p_type VARCHAR(25) NOT NULL, p_size INT NOT NULL, p_container CHAR(10) NOT NULL, \
            p_retailprice DECIMAL(15,2) NOT NULL, p_comment VARCHAR(23) NOT NULL",
        lines: |scale| Box::new(PartGenerator::new(scale, 1, 1).iter().map(|row| PartCsv::new(row).to_string())),
    },
    Table {
        name: "partsupp",
        columns: "ps_partkey INT, ps_suppkey INT, ps_availqty INT NOT NULL, ps_supplycost DECIMAL(15,2) NOT NULL, \
            ps_comment VARCHAR(199) NOT NULL, PRIMARY KEY (ps_partkey, ps_suppkey), SHARD KEY (ps_partkey)",
        lines: |scale| {
            Box::new(PartSuppGenerator::new(scale, 1, 1).iter().map(|row| PartSuppCsv::new(row).to_string()))
        },
    },
    Table {
        name: "orders",
        columns: "o_orderkey INT PRIMARY KEY, o_custkey INT NOT NULL, o_orderstatus CHAR(1) NOT NULL, \
            o_totalprice DECIMAL(15,2) NOT NULL, o_orderdate DATE NOT NULL, o_orderpriority CHAR(15) NOT NULL, \
            o_clerk CHAR(15) NOT NULL, o_shippriority INT NOT NULL, o_comment VARCHAR(79) NOT NULL",
        lines: |scale| Box::new(OrderGenerator::new(scale, 1, 1).iter().map(|row| OrderCsv::new(row).to_string())),
    },
    Table {
        name: "lineitem",
        columns: "l_orderkey INT, l_partkey INT NOT NULL, l_suppkey INT NOT NULL, l_linenumber INT, \
            l_quantity DECIMAL(15,2) NOT NULL, l_extendedprice DECIMAL(15,2) NOT NULL, \
            l_discount DECIMAL(15,2) NOT NULL, l_tax DECIMAL(15,2) NOT NULL, l_returnflag CHAR(1) NOT NULL, \
            l_linestatus CHAR(1) NOT NULL, l_shipdate DATE NOT NULL, l_commitdate DATE NOT NULL, \
            l_receiptdate DATE NOT NULL, l_shipinstruct CHAR(25) NOT NULL, l_shipmode CHAR(10) NOT NULL, \
            l_comment VARCHAR(44) NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber), SHARD KEY (l_orderkey)",
        lines: |scale| {
            Box::new(LineItemGenerator::new(scale, 1, 1).iter().map(|row| LineItemCsv::new(row).to_string()))
        },
    },
];

/// Tables of the writer: every write is an entry of the ledger, and a transfer changes two accounts as well.
pub const WRITERS: [(&str, &str); 2] = [
    ("accounts", "id INT PRIMARY KEY, balance BIGINT NOT NULL"),
    ("ledger", "id BIGINT PRIMARY KEY, region VARCHAR(8) NOT NULL, at DATETIME(6) NOT NULL, amount BIGINT NOT NULL"),
];

/// Names of all tables, in the order in which they are compared.
pub fn names() -> Vec<&'static str> {
    let tpch = TPCH.iter().map(|table| table.name);
    tpch.chain(WRITERS.iter().map(|(name, _)| *name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_tpch() {
        let at = |name: &str| TPCH.iter().find(|table| table.name == name).unwrap();
        let counts: Vec<usize> = TPCH.iter().map(|table| (table.lines)(0.01).count()).collect();
        assert_eq!(counts, [5, 25, 100, 1500, 2000, 8000, 15000, 60175]);
        assert_eq!((at("region").lines)(0.01).nth(1).unwrap(), r#"1,AMERICA,"hs use ironic, even requests. s""#);
    }
}
