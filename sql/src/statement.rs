//! What a statement may be: one question, of bounded size, that only reads.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParser, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{Statement as Sql, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use lakefall_queue::sql::{Parameter, Parameters, STATEMENT_BYTES, SqlRefusal};
use lakefall_queue::{Error, Result};

use crate::columns::VIRTUAL;
use crate::refusal::{invalid, refused};

/// Most operators, joins and the like. A chain of them is a tree as deep as it is long, which planning walks by recursion.
const OPERATORS: usize = 1_000;

/// A statement that may be answered.
pub(crate) struct Question {
    pub(crate) parsed: Parsed,
    /// It may name fields of values, or asks for all columns.
    pub(crate) wants_typed: bool,
}

/// Reads a statement.
pub(crate) fn parse(text: &str) -> Result<Question> {
    if text.len() > STATEMENT_BYTES {
        return Err(Error::TooLarge { what: "the query", limit: STATEMENT_BYTES as u64, actual: text.len() as u64 });
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize().map_err(|error| {
        let place = Some((error.location.line, error.location.column));
        Error::from(SqlRefusal::Invalid { reason: error.message, place })
    })?;
    if tokens.iter().filter(|token| is_operator(token)).count() > OPERATORS {
        return Err(invalid(format!("the query has more than {OPERATORS} operators, joins and conditions")));
    }
    let mut statements = DFParser::parse_sql_with_dialect(text, &dialect).map_err(refused)?;
    let (Some(statement), None) = (statements.pop_front(), statements.pop_front()) else {
        return Err(invalid("the query must be one statement"));
    };
    let parsed = allowed(statement)?;
    Ok(Question { wants_typed: wants_typed(&tokens), parsed })
}

/// Refuses what is not one expression, so that it says nothing but what it may where a statement is put around it.
pub fn check_predicate(text: &str) -> Result<()> {
    let dialect = GenericDialect {};
    // Its places are those of the text by itself.
    let refused = |error: ParserError| refused(DataFusionError::SQL(Box::new(error), None));
    let mut parser = Parser::new(&dialect).try_with_sql(text).map_err(refused)?;
    parser.parse_expr().map_err(refused)?;
    let next = parser.peek_token();
    if next.token == Token::EOF {
        return Ok(());
    }
    let place = Some((next.span.start.line, next.span.start.column));
    Err(SqlRefusal::Invalid { reason: format!("expected the end of the predicate, found {next}"), place }.into())
}

fn allowed(statement: Parsed) -> Result<Parsed> {
    match statement {
        Parsed::Statement(sql) => match *sql {
            Sql::Query(query) => {
                let sql = Sql::Query(query);
                match sql.visit(&mut OnlyTables) {
                    ControlFlow::Continue(()) => Ok(Parsed::Statement(Box::new(sql))),
                    ControlFlow::Break(reason) => Err(invalid(reason)),
                }
            }
            Sql::ExplainTable { .. } => Ok(Parsed::Statement(sql)),
            Sql::ShowTables { .. } => shown_tables(),
            Sql::ShowColumns { .. } => Err(invalid("use DESCRIBE and a table's name to see its columns")),
            _ => Err(not_reading()),
        },
        Parsed::Explain(mut explain) => {
            *explain.statement = allowed(*explain.statement)?;
            Ok(Parsed::Explain(explain))
        }
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => Err(not_reading()),
    }
}

fn not_reading() -> Error {
    invalid("only SELECT, WITH, EXPLAIN, SHOW TABLES and DESCRIBE are taken: a query changes nothing")
}

/// What `SHOW TABLES` stands for.
fn shown_tables() -> Result<Parsed> {
    let text = "SELECT table_schema, table_name FROM system.tables ORDER BY table_schema, table_name";
    let mut statements = DFParser::parse_sql(text).map_err(refused)?;
    statements.pop_front().ok_or_else(|| Error::Internal("no statement".to_owned()))
}

/// Refuses what would make a query change something, or read something else than tables.
struct OnlyTables;

impl Visitor for OnlyTables {
    type Break = String;

    fn pre_visit_statement(&mut self, statement: &Sql) -> ControlFlow<String> {
        match statement {
            Sql::Query(_) => ControlFlow::Continue(()),
            _ => ControlFlow::Break("a query changes nothing: only SELECT is taken in it".to_owned()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<String> {
        match factor {
            TableFactor::Table { name, .. } if name.0.len() > 2 => {
                ControlFlow::Break(format!("{name}: a table is named by its topic, or as system.name"))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::BETWEEN
                | Keyword::CASE
                | Keyword::WHEN
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::SELECT
                | Keyword::CAST
        ),
        Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::RParen
        | Token::RBracket
        | Token::SemiColon
        | Token::Placeholder(_)
        | Token::EOF => false,
        // Also what opens: each is a level.
        _ => true,
    }
}

/// Whether columns may be named that are found by looking at values. In doubt they are.
fn wants_typed(tokens: &[Token]) -> bool {
    let tokens: Vec<&Token> = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        match token {
            Token::Mul => {
                // All columns, unless it is `count(*)` or a product.
                let opens_select =
                    matches!(before, Some(Token::Word(word)) if word.keyword == Keyword::SELECT || word.keyword == Keyword::DISTINCT);
                if opens_select || matches!(before, Some(Token::Comma | Token::Period)) {
                    return true;
                }
            }
            Token::Word(word) if word.keyword != Keyword::NoKeyword && word.quote_style.is_none() => match word.keyword {
                // FROM means something else in them.
                Keyword::EXTRACT | Keyword::SUBSTRING | Keyword::TRIM | Keyword::OVERLAY | Keyword::POSITION => return true,
                Keyword::FROM | Keyword::JOIN => {}
                Keyword::DESCRIBE | Keyword::DESC if at == 0 => return true,
                // Many keywords are good names of columns.
                keyword if !is_structure(keyword) && !is_call(&tokens, at) => return true,
                _ => {}
            },
            Token::Word(word) => {
                let is_virtual = VIRTUAL.iter().any(|(_, name)| *name == word.value);
                let follows = |keywords: &[Keyword]| matches!(before, Some(Token::Word(word)) if keywords.contains(&word.keyword));
                let is_other = follows(&[Keyword::AS, Keyword::FROM, Keyword::JOIN]);
                if !is_virtual && !is_other && !is_call(&tokens, at) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

fn is_call(tokens: &[&Token], at: usize) -> bool {
    matches!(tokens.get(at + 1), Some(Token::LParen))
}

/// Keywords that are part of a statement's structure and name no column.
fn is_structure(keyword: Keyword) -> bool {
    use Keyword as K;
    matches!(
        keyword,
        K::SELECT
            | K::AS
            | K::WHERE
            | K::GROUP
            | K::BY
            | K::ORDER
            | K::LIMIT
            | K::OFFSET
            | K::HAVING
            | K::AND
            | K::OR
            | K::NOT
            | K::IN
            | K::IS
            | K::NULL
            | K::BETWEEN
            | K::LIKE
            | K::ILIKE
            | K::ASC
            | K::DESC
            | K::DISTINCT
            | K::TRUE
            | K::FALSE
            | K::EXPLAIN
            | K::ANALYZE
            | K::VERBOSE
            | K::TIMESTAMP
            | K::INTERVAL
            | K::ALL
            | K::NULLS
            | K::FIRST
            | K::LAST
    )
}

/// The values of placeholders.
pub(crate) fn values(parameters: &Parameters) -> Option<ParamValues> {
    let scalar = |parameter: &Parameter| {
        ScalarAndMetadata::from(match parameter {
            Parameter::Null => ScalarValue::Null,
            Parameter::Boolean(value) => ScalarValue::Boolean(Some(*value)),
            Parameter::Integer(value) => ScalarValue::Int64(Some(*value)),
            Parameter::Float(value) => ScalarValue::Float64(Some(*value)),
            Parameter::Text(value) => ScalarValue::Utf8(Some(value.clone())),
        })
    };
    match parameters {
        Parameters::None => None,
        Parameters::Listed(values) => Some(ParamValues::List(values.iter().map(scalar).collect())),
        Parameters::Named(values) => {
            let each = values.iter().map(|(name, value)| (name.clone(), scalar(value)));
            Some(ParamValues::Map(each.collect::<HashMap<_, _>>()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(text: &str) -> bool {
        parse(text).is_err()
    }

    #[test]
    fn only_reading_is_taken() {
        for text in [
            "SELECT 1",
            "WITH t AS (SELECT 1 AS n) SELECT n FROM t",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT * FROM t",
            "SHOW TABLES",
            "DESCRIBE t",
            "SELECT 1;",
        ] {
            assert!(!is_refused(text), "{text}");
        }
        for text in [
            "",
            "SELECT 1; SELECT 2",
            "INSERT INTO t VALUES (1)",
            "WITH t AS (SELECT 1) INSERT INTO u SELECT * FROM t",
            "DELETE FROM t",
            "UPDATE t SET a = 1",
            "DROP TABLE t",
            "CREATE TABLE t (a INT)",
            "CREATE TABLE t AS SELECT 1",
            "CREATE VIEW v AS SELECT 1",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "COPY t TO '/tmp/x'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "EXPLAIN COPY t TO '/tmp/x'",
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
            "SET datafusion.execution.batch_size = 1",
            "RESET datafusion.execution.batch_size",
            "SHOW ALL",
            "SHOW COLUMNS FROM t",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "BEGIN",
            "TRUNCATE t",
            "SELECT * FROM a.b.c",
            "SELEC 1",
        ] {
            assert!(is_refused(text), "{text}");
        }
    }

    #[test]
    fn a_statement_that_would_be_a_deep_tree_is_refused_before_it_is_one() {
        assert!(is_refused(&format!("SELECT 1{}", "+1".repeat(2_000))));
        assert!(is_refused(&format!("SELECT {}1{}", "(".repeat(2_000), ")".repeat(2_000))));
        assert!(is_refused(&format!("SELECT {}1", "- ".repeat(2_000))));
        assert!(is_refused(&format!("SELECT 1{}", " UNION SELECT 1".repeat(600))));
        assert!(is_refused(&"x".repeat(STATEMENT_BYTES + 1)));
        let list: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
        assert!(!is_refused(&format!("SELECT * FROM t WHERE n IN ({})", list.join(","))));
    }

    #[test]
    fn values_are_looked_at_only_where_a_statement_may_name_their_fields() {
        let wants = |text: &str| parse(text).unwrap().wants_typed;
        for text in [
            "SELECT count(*) FROM flights",
            "SELECT max(_offset) AS n, 2 * _partition FROM flights WHERE _key = 'a' GROUP BY _partition",
            "SELECT _raw FROM flights ORDER BY _offset DESC LIMIT 10",
        ] {
            assert!(!wants(text), "{text}");
        }
        for text in [
            "SELECT * FROM flights",
            "SELECT _offset, * FROM flights",
            "SELECT f.* FROM flights f",
            "SELECT carrier FROM flights",
            "SELECT count(*) FROM flights WHERE year = 2013",
            "SELECT count(*) FROM (SELECT carrier FROM flights)",
            "SELECT extract(year FROM departed) FROM flights",
            "SELECT count(*) FROM flights WHERE month > 3",
            "SELECT _offset FROM flights WHERE \"count\" > 1",
            "DESCRIBE flights",
        ] {
            assert!(wants(text), "{text}");
        }
    }
}
