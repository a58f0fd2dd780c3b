//! `LIKE … ESCAPE c` for any `c`: the engine knows the backslash alone.
//!
//! A pattern whose escape character is another one is rewritten to the same pattern with backslashes,
//! when it is known, or else by a function when it is. It is done before types are settled, in filters
//! and columns alike.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::expr::Like;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf, lit};

/// Returns the rule, for a session's analyzer.
pub(crate) fn like_escape() -> Arc<dyn FunctionRewrite + Send + Sync> {
    Arc::new(LikeEscape)
}

/// Writes patterns with another escape character as ones with backslashes.
#[derive(Debug)]
struct LikeEscape;

impl FunctionRewrite for LikeEscape {
    fn name(&self) -> &str {
        "like_escape"
    }

    fn rewrite(
        &self,
        expr: Expr,
        _: &DFSchema,
        _: &ConfigOptions,
    ) -> EngineResult<Transformed<Expr>> {
        match expr {
            Expr::Like(Like {
                pattern,
                escape_char: Some(escape),
                negated,
                expr,
                case_insensitive,
            }) if escape != '\\' => {
                let pattern = Box::new(with_backslashes(*pattern, escape));
                let like = Like { pattern, escape_char: None, negated, expr, case_insensitive };
                Ok(Transformed::yes(Expr::Like(like)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn with_backslashes(pattern: Expr, escape: char) -> Expr {
    if let Expr::Literal(
        ScalarValue::Utf8(Some(text))
        | ScalarValue::Utf8View(Some(text))
        | ScalarValue::LargeUtf8(Some(text)),
        _,
    ) = &pattern
    {
        return lit(text_with_backslashes(text, escape));
    }
    WITH_BACKSLASHES.call(vec![pattern, lit(escape.to_string())])
}

/// The same for patterns that are not known yet.
static WITH_BACKSLASHES: LazyLock<ScalarUDF> = LazyLock::new(|| {
    create_udf(
        "with_backslashes",
        vec![DataType::Utf8, DataType::Utf8],
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(|arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let [patterns, escapes] =
                [&arrays[0], &arrays[1]].map(|array| array.as_string::<i32>());
            let escaped = patterns.iter().zip(escapes).map(|(pattern, escape)| {
                let escape = escape?.chars().next()?;
                Some(text_with_backslashes(pattern?, escape))
            });
            Ok(ColumnarValue::Array(Arc::new(escaped.collect::<StringArray>())))
        }),
    )
});

fn text_with_backslashes(text: &str, escape: char) -> String {
    let mut chars = text.chars();
    let mut result = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        match c {
            c if c == escape => match chars.next() {
                Some(next @ ('%' | '_' | '\\')) => result.extend(['\\', next]),
                Some(next) => result.push(next),
                None => result.push(escape),
            },
            '\\' => result.push_str("\\\\"),
            c => result.push(c),
        }
    }
    result
}
