//! From what DataFusion says to what the caller is told.

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use lakefall_queue::Error;
use lakefall_queue::sql::SqlRefusal;

/// Longest text for a caller: a table's columns may be hundreds.
const LONGEST: usize = 1_000;

/// A statement that is wrong.
pub(crate) fn invalid(reason: impl Into<String>) -> Error {
    SqlRefusal::Invalid { reason: shortened(reason.into()), place: None }.into()
}

/// A statement that asks for too much.
pub(crate) fn exceeded(reason: impl Into<String>) -> Error {
    SqlRefusal::LimitExceeded { reason: shortened(reason.into()) }.into()
}

/// An error of planning or of executing a statement.
pub(crate) fn refused(error: DataFusionError) -> Error {
    let place = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(|span| (span.start.line, span.start.column));
    let root = root(&error);
    match root {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(own) => own.clone(),
            None => defect(&error),
        },
        DataFusionError::ResourcesExhausted(_) => exceeded(
            "the statement needs more memory than one may use (sql.memory_bytes): let it read fewer columns or group by fewer values",
        ),
        DataFusionError::SQL(parser, _) => {
            let text = match &**parser {
                ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
                ParserError::RecursionLimitExceeded => "the statement is nested too deep".to_owned(),
            };
            let place = place_in(&text);
            SqlRefusal::Invalid { reason: shortened(text), place }.into()
        }
        DataFusionError::SchemaError(schema, _) => SqlRefusal::Invalid { reason: shortened(schema.to_string()), place }.into(),
        DataFusionError::Plan(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::Execution(text)
        | DataFusionError::Configuration(text) => SqlRefusal::Invalid { reason: shortened(text.clone()), place }.into(),
        // Rows that an expression cannot be computed for: a division by zero, a text that is no number.
        DataFusionError::ArrowError(arrow, _) => SqlRefusal::Invalid { reason: shortened(arrow.to_string()), place }.into(),
        _ => defect(&error),
    }
}

/// What lies below wrappers; [`DataFusionError::find_root`] would look into errors of others, too.
fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Shared(inner) => root(inner),
        DataFusionError::Collection(errors) => errors.first().map_or(error, root),
        DataFusionError::External(inner) => inner.downcast_ref::<DataFusionError>().map_or(error, root),
        DataFusionError::ArrowError(arrow, _) => match &**arrow {
            arrow_schema::ArrowError::ExternalError(inner) => inner.downcast_ref::<DataFusionError>().map_or(error, root),
            _ => error,
        },
        _ => error,
    }
}

fn defect(error: &DataFusionError) -> Error {
    Error::Internal(format!("a statement failed: {}", shortened(error.to_string())))
}

/// Reads `at Line: 1, Column: 8` off the end of the parser's texts.
fn place_in(text: &str) -> Option<(u64, u64)> {
    let (_, place) = text.rsplit_once("Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(line)?, digits(column)?))
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_error_is_read_from_the_text() {
        assert_eq!(place_in("Expected: an expression, found: EOF at Line: 3, Column: 17"), Some((3, 17)));
        assert_eq!(place_in("nothing of the kind"), None);
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shortened("ä".repeat(2_000)).chars().count(), LONGEST + 1);
    }
}
