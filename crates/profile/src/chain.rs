//! Chains of operators: `a or b or c …` is as deep a tree as it is long, and the engine walks trees by recursion.

use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::query_error::{Position, QueryError};

/// The longest chain that is let through. The engine takes 2.5 s to plan 1,000 ORed comparisons, and a time that grows with
/// the square; some ten thousand overflow the stack, which nothing can catch.
const LONGEST: usize = 2_000;

/// Refuses a text that has a longer chain. A text that has no tokens is left to the parser.
///
/// # Errors
/// [`QueryError::LongChain`].
pub(crate) fn check(sql: &str, dialect: &dyn Dialect) -> Result<(), QueryError> {
    let Ok(tokens) = Tokenizer::new(dialect, sql).tokenize_with_location() else {
        return Ok(());
    };
    // Of each parenthesis that is open: the operators since its last comma.
    let mut chains = vec![0_usize];
    for token in &tokens {
        match &token.token {
            Token::LParen | Token::LBracket => chains.push(0),
            Token::RParen | Token::RBracket if chains.len() > 1 => {
                chains.pop();
            }
            Token::Comma | Token::SemiColon => *last(&mut chains) = 0,
            token if links(token) => *last(&mut chains) += 1,
            _ => {}
        }
        if *last(&mut chains) > LONGEST {
            let position = Position::of(token.span);
            return Err(QueryError::LongChain { longest: LONGEST, position });
        }
    }
    Ok(())
}

fn last(chains: &mut [usize]) -> &mut usize {
    chains.last_mut().unwrap_or_else(|| unreachable!("the outermost chain is never taken away"))
}

/// Whether it makes the tree deeper.
fn links(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::NOT
        ),
        Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::Mod
        | Token::StringConcat
        | Token::DoubleColon
        | Token::Arrow
        | Token::LongArrow => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    use super::*;

    fn check(sql: &str) -> Result<(), QueryError> {
        super::check(sql, &GenericDialect {})
    }

    #[test]
    fn a_chain_is_as_long_as_its_operators() {
        for (first, link) in [("select a = 0", " or a = 1"), ("select 1", " + 1"), ("select 1", " union all select 1")]
        {
            check(&format!("{first}{}", link.repeat(LONGEST))).unwrap();
            let long = check(&format!("{first}\n{}", link.repeat(LONGEST + 1)));
            assert!(matches!(&long, Err(QueryError::LongChain { position: Some(at), .. }) if at.line == 2), "{long:?}");
        }
    }

    #[test]
    fn what_stands_side_by_side_is_no_chain() {
        let list = vec!["a + 1"; LONGEST * 2].join(", ");
        check(&format!("select {list} from t where x in ({list})")).unwrap();
        check(&"(1 + 1)".repeat(LONGEST * 2)).unwrap();
        // Closed more often than opened, and not SQL at all: the parser's business.
        check("select 1))) + 1").unwrap();
        check("select 'unfinished").unwrap();
    }
}
