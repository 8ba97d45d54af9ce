//! DataFusion's planner with our tables, functions and operators.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::config::ConfigOptions;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::sql::planner::{ContextProvider, NullOrdering, ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{Query, Statement};

use super::operators::Operators;
use super::udf::{external, udf};
use crate::error::Error;
use crate::scalar::{Env, Function};

struct Context<'a> {
    tables: BTreeMap<(String, String), Arc<dyn TableProvider>>,
    env: Arc<Env>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    state: &'a SessionState,
}

/// The plan of a normalised query.
pub(super) fn plan(
    query: Query,
    tables: BTreeMap<(String, String), Arc<dyn TableProvider>>,
    env: &Arc<Env>,
    state: &SessionState,
) -> Result<LogicalPlan> {
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(Operators { env: env.clone() })];
    planners.extend(state.expr_planners().iter().cloned());
    let context = Context { tables, env: env.clone(), planners, state };
    let options = ParserOptions {
        parse_float_as_decimal: true,
        enable_ident_normalization: false,
        support_varchar_with_length: true,
        enable_options_value_normalization: false,
        collect_spans: false,
        map_string_types_to_utf8view: false,
        default_null_ordering: NullOrdering::NullsMin,
    };
    SqlToRel::new_with_options(&context, options).sql_statement_to_plan(Statement::Query(Box::new(query)))
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let key = (name.schema().unwrap_or_default().to_string(), name.table().to_string());
        match self.tables.get(&key) {
            Some(table) => Ok(provider_as_source(table.clone())),
            None => Err(external(Error::unknown_table(&key.0, &key.1))),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        match name {
            "rand" => self.state.scalar_functions().get("random").cloned(),
            "uuid" | "md5" => self.state.scalar_functions().get(name).cloned(),
            _ => Function::find(name).map(|function| udf(function, &self.env)),
        }
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        // Names that are both are the scalar ones unless the normaliser has made an aggregate of them.
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        vec![]
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        vec![]
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}
