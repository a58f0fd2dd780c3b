//! Statements of a session with a cluster: planned for it and, if the plan does not travel, once more
//! for this process.
//!
//! The two plans differ in more than where they run: what a cluster's does without (filters that come up
//! while it runs, views of text, joins that may not leave memory) is good to have here. Both see the
//! statement's snapshot.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result as EngineResult;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement as EngineStatement;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Planned, PondContext, Purpose};
use crate::catalog::Binding;
use crate::cluster::{Cluster, Placing, Stays};
use crate::error::Result;

/// Where a statement runs.
enum Place {
    /// On the cluster.
    There(Arc<Placing>),
    /// In this process, and why.
    Here(String),
}

impl PondContext {
    /// Plans a statement to be run on `cluster`, or here.
    pub(super) async fn planned_with(
        &self,
        cluster: &Cluster,
        binding: &Arc<Binding>,
        statement: EngineStatement,
        purpose: Purpose<'_>,
    ) -> Result<(SessionState, Planned)> {
        let EngineStatement::Explain(explain) = &statement else {
            return match self.planned_there(cluster, binding, &statement, purpose).await {
                Ok(planned) => Ok(planned),
                Err(_) => self.planned_here(binding, statement, purpose).await,
            };
        };
        let place = match explain.options.analyze {
            true => Place::Here("EXPLAIN ANALYZE measures this process".to_owned()),
            false => {
                match self.planned_there(cluster, binding, &explain.statement, purpose).await {
                    Ok((state, _)) => {
                        let placing = state.config().get_extension::<Placing>();
                        Place::There(placing.expect("it was put there"))
                    }
                    Err(why) => Place::Here(why),
                }
            }
        };
        let (said, (state, planned)) = match place {
            Place::There(placing) => {
                let (mut state, binding) = self.session_there(cluster, binding);
                placing.narrow(&mut state);
                let planned = self.plan(&state, &binding, statement, purpose).await?;
                (("cluster", cluster.to_string()), (state, planned))
            }
            Place::Here(why) => {
                (("here", why), self.planned_here(binding, statement, purpose).await?)
            }
        };
        let planned = match planned {
            Planned::Query(plan) => Planned::Query(noted(said.0, &said.1, plan)?),
            other => other,
        };
        Ok((state, planned))
    }

    /// Plans a statement to be run on `cluster`, or says why it is not.
    async fn planned_there(
        &self,
        cluster: &Cluster,
        binding: &Arc<Binding>,
        statement: &EngineStatement,
        purpose: Purpose<'_>,
    ) -> Result<(SessionState, Planned), String> {
        let (state, binding) = self.session_there(cluster, binding);
        let planned = self.plan(&state, &binding, statement.clone(), purpose).await;
        let placing = state.config().get_extension::<Placing>();
        let has_placed = placing.is_some_and(|placing| placing.has_placed());
        match planned {
            Ok(planned @ (Planned::Query(_) | Planned::Rows(_))) if has_placed => {
                Ok((state, planned))
            }
            Ok(_) => Err("the statement's rows keep their order".to_owned()),
            Err(error) => Err(match Stays::find(&error) {
                Some(stays) => stays.to_string(),
                None => format!("it cannot be planned for a cluster: {}", error.strip_backtrace()),
            }),
        }
    }

    /// Returns a session that plans for `cluster`, and the statement's binding in it.
    fn session_there(
        &self,
        cluster: &Cluster,
        binding: &Arc<Binding>,
    ) -> (SessionState, Arc<Binding>) {
        // A cluster is asked for what takes long: what a lean session saves is nothing beside it.
        self.lean().complete();
        let placing = Placing::on(cluster);
        let (context, of) = (self.clone(), cluster.clone());
        let inner = binding.with_session(Arc::new(move |binding, _| {
            Ok(context.lean().bound_for(&of, None, binding))
        }));
        (self.lean().bound_for(cluster, Some(placing), &inner), inner)
    }
}

/// Returns an `EXPLAIN` with one more row before the others.
fn noted(
    what: &'static str,
    detail: &str,
    plan: Arc<dyn ExecutionPlan>,
) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec![what])), Arc::new(StringArray::from(vec![detail]))];
    let note = RecordBatch::try_new(schema.clone(), columns)?;
    let rows: Arc<dyn PartitionStream> = Arc::new(Noted { schema: schema.clone(), note, plan });
    Ok(Arc::new(StreamingTableExec::try_new(schema, vec![rows], None, None, false, None)?))
}

#[derive(Debug)]
struct Noted {
    schema: SchemaRef,
    note: RecordBatch,
    plan: Arc<dyn ExecutionPlan>,
}

impl PartitionStream for Noted {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rest = stream::once(std::future::ready(execute_stream(self.plan.clone(), context)));
        let note = stream::once(std::future::ready(Ok(self.note.clone())));
        let rows = note.chain(rest.try_flatten());
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}
