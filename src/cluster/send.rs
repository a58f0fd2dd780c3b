//! Which plans travel, and how they are written down.
//!
//! The plan's scans are made the engine's own ([`travelling`]). Functions must be the very ones that an
//! executor has under their names: an application's function, or one that depends on a setting of the
//! session, would mean something else there. What was written is read again as a scheduler would, so
//! that nothing is sent that no cluster understands.

use std::sync::{Arc, LazyLock};

use ballista_core::registry::BallistaFunctionRegistry;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::prelude::SessionConfig;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};

use super::Stays;
use crate::format::travelling;

/// Most bytes of a plan: schedulers and executors take 16 MiB, and tell each other more than that.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The functions of a stock executor.
static FUNCTIONS: LazyLock<BallistaFunctionRegistry> =
    LazyLock::new(BallistaFunctionRegistry::default);

/// What a stock executor reads a plan with.
static READER: LazyLock<TaskContext> = LazyLock::new(|| {
    TaskContext::new(
        None,
        String::new(),
        SessionConfig::new(),
        FUNCTIONS.scalar_functions.clone(),
        FUNCTIONS.higher_order_functions.clone(),
        FUNCTIONS.aggregate_functions.clone(),
        FUNCTIONS.window_functions.clone(),
        Arc::default(),
    )
});

/// A plan that travels.
#[derive(Debug)]
pub(super) struct Message {
    /// The plan as it is here: it keeps what must stay while the query runs.
    pub(super) plan: Arc<dyn ExecutionPlan>,
    /// The plan as it is sent.
    pub(super) bytes: Vec<u8>,
}

impl Message {
    /// Writes `plan` down.
    ///
    /// # Errors
    /// [`Stays`] for a plan that does not travel.
    pub(super) fn of(plan: Arc<dyn ExecutionPlan>) -> EngineResult<Self> {
        let mut reads_files = false;
        let sent = plan.clone().transform_up(|node| {
            if node.downcast_ref::<HashJoinExec>().is_some_and(|join| join.null_aware) {
                return Err(Stays("NOT IN looks for nulls in one process".to_owned()).into());
            }
            if !node.children().is_empty()
                || node.is::<EmptyExec>()
                || node.is::<PlaceholderRowExec>()
            {
                return Ok(Transformed::no(node));
            }
            let travelling = travelling(&node).map_err(Stays)?;
            reads_files |= travelling.reads_files;
            Ok(Transformed::yes(travelling.scan))
        });
        let sent = sent.data()?;
        if !reads_files {
            return Err(Stays("no file is read".to_owned()).into());
        }
        let bytes = physical_plan_to_bytes_with_extension_codec(sent, &Stock).map_err(unwritten)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            let why = format!("the plan takes {} bytes, too many to be sent", bytes.len());
            return Err(Stays(why).into());
        }
        physical_plan_from_bytes_with_extension_codec(&bytes, &READER, &Stock)
            .map_err(unwritten)?;
        Ok(Self { plan, bytes: bytes.into() })
    }
}

/// Says why a plan cannot be written down, or not be read again.
fn unwritten(error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::External(why) if why.is::<Stays>() => DataFusionError::External(why),
        other => {
            let why = other.strip_backtrace();
            let first = why.lines().next().unwrap_or_default();
            Stays(format!("the plan cannot be sent: {first}")).into()
        }
    }
}

/// What the engine's own nodes need no codec for; all others are refused.
#[derive(Debug)]
struct Stock;

impl PhysicalExtensionCodec for Stock {
    fn try_decode(
        &self,
        _: &[u8],
        _: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        Err(Stays("a step of the plan is known to this process alone".to_owned()).into())
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        _: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> EngineResult<()> {
        Err(Stays(format!("{} is a step that cannot be sent", node.name())).into())
    }

    fn try_encode_udf(&self, function: &ScalarUDF, _: &mut Vec<u8>) -> EngineResult<()> {
        is_known(function.name(), FUNCTIONS.udf(function.name()).is_ok_and(|it| *it == *function))
    }

    fn try_encode_udaf(&self, function: &AggregateUDF, _: &mut Vec<u8>) -> EngineResult<()> {
        is_known(function.name(), FUNCTIONS.udaf(function.name()).is_ok_and(|it| *it == *function))
    }

    fn try_encode_udwf(&self, function: &WindowUDF, _: &mut Vec<u8>) -> EngineResult<()> {
        is_known(function.name(), FUNCTIONS.udwf(function.name()).is_ok_and(|it| *it == *function))
    }
}

fn is_known(name: &str, is_known: bool) -> EngineResult<()> {
    match is_known {
        true => Ok(()),
        false => Err(Stays(format!("the cluster has no function {name}() like this one")).into()),
    }
}
