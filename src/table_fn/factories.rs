//! `factories()`: what kinds of nodes can be made, and with which options.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result as EngineResult;

use super::arguments::{Arguments, Signature};
use super::rows::Rows;
use crate::catalog::Binding;
use crate::error::Result;
use crate::factory::{Factory, FactoryRegistry, OptionSpec};

/// The function.
pub(super) static SIGNATURE: Signature = Signature { name: "factories", parameters: &[] };

/// `factories()` of one binding.
#[derive(Debug)]
pub(super) struct Factories(pub Arc<Binding>);

impl TableFunctionImpl for Factories {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        Arguments::new(&SIGNATURE, args.exprs())?;
        self.0.mark_used();
        let binding = self.0.clone();
        Ok(Arc::new(Rows::new(factories_schema(), move || {
            let binding = binding.clone();
            async move { factories_batch(binding.tree().factories()) }
        })))
    }
}

fn factories_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("factory", DataType::Utf8View, false),
            Field::new("description", DataType::Utf8View, false),
            Field::new("options", DataType::Utf8View, false),
        ]))
    });
    SCHEMA.clone()
}

/// Returns the rows of `factories()`.
pub(crate) fn factories_batch(registry: &FactoryRegistry) -> Result<RecordBatch> {
    let all = registry.all();
    let options = |factory: &dyn Factory| {
        factory.options().iter().map(|option| option.name).collect::<Vec<_>>().join(", ")
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(all.iter().map(|factory| Some(factory.name())).collect::<StringViewArray>()),
        Arc::new(
            all.iter().map(|factory| Some(factory.description())).collect::<StringViewArray>(),
        ),
        Arc::new(all.iter().map(|factory| Some(options(&**factory))).collect::<StringViewArray>()),
    ];
    Ok(RecordBatch::try_new(factories_schema(), columns)?)
}

/// Returns the rows of `DESCRIBE FACTORY`.
pub(crate) fn options_batch(options: &[OptionSpec]) -> Result<RecordBatch> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("option", DataType::Utf8View, false),
        Field::new("takes", DataType::Utf8View, false),
        Field::new("required", DataType::Boolean, false),
        Field::new("default", DataType::Utf8View, true),
        Field::new("description", DataType::Utf8View, false),
    ]));
    let text = |value: fn(&OptionSpec) -> Option<String>| -> ArrayRef {
        Arc::new(options.iter().map(value).collect::<StringViewArray>())
    };
    let columns = vec![
        text(|option| Some(option.name.to_owned())),
        text(|option| Some(option.kind.describe())),
        Arc::new(options.iter().map(|option| Some(option.required)).collect::<BooleanArray>()),
        text(|option| option.default.map(str::to_owned)),
        text(|option| Some(option.doc.to_owned())),
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}
