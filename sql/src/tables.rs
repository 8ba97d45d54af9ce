//! Which databases a statement on rows names: what the user must be allowed to use.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{ObjectNamePart, Visit, visit_relations};

use crate::statement::Statement;

/// The databases of the tables that a query or a change of rows names; `None` stands for the session's own.
pub fn databases_named(statement: &Statement) -> BTreeSet<Option<String>> {
    let mut found = BTreeSet::new();
    match statement {
        Statement::Query(query) | Statement::Explain(query) => collect(&*query.tree, &mut found),
        Statement::Insert(insert) => collect(&**insert, &mut found),
        Statement::Update(update) => collect(&**update, &mut found),
        Statement::Delete(delete) => collect(&**delete, &mut found),
        _ => {}
    }
    found
}

fn collect(tree: &impl Visit, found: &mut BTreeSet<Option<String>>) {
    let _ = visit_relations(tree, |name| {
        let database = match &name.0[..] {
            [ObjectNamePart::Identifier(database), _] => Some(database.value.clone()),
            _ => None,
        };
        found.insert(database);
        ControlFlow::<()>::Continue(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_a_statement_counts() {
        let of = |text: &str| databases_named(&crate::parse::parse(text).expect("it parses"));
        let own = BTreeSet::from([None]);
        assert_eq!(of("SELECT 1"), BTreeSet::new());
        assert_eq!(of("SELECT * FROM t"), own);
        assert_eq!(of("INSERT INTO a.t SELECT * FROM b.t"), BTreeSet::from([Some("a".into()), Some("b".into())]));
        assert_eq!(of("SELECT (SELECT MAX(x) FROM b.u) FROM t"), BTreeSet::from([None, Some("b".into())]));
    }
}
