//! The language of conditions.
//!
//! ```text
//! or         = and ("or" and)*
//! and        = not ("and" not)*
//! not        = "not" not | "(" or ")" | comparison
//! comparison = field ("exists" | operator value | "in" "(" value ("," value)* ")")
//! operator   = "=" "==" "!=" "<>" "<" "<=" ">" ">=" "contains" "starts_with" "ends_with" "matches"
//! ```
//!
//! Values and parts of names may stand in single or double quotes; a quote inside is written twice. Words of the language
//! may be in capitals.

use super::duration::parse_duration_ms;
use super::field::Field;
use super::{Check, Condition, DEPTH_MAX, EXPRESSION_MAX_BYTES, Literal, Node, Number};

/// Steps after which a search with a regular expression is given up.
const BACKTRACK_LIMIT: usize = 100_000;

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A word, and whether a part of it stood in quotes.
    Word(String, bool),
    Sign(&'static str),
}

/// Signs, the longer first.
const SIGNS: [&str; 11] = ["==", "!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", ","];

impl Condition {
    /// The condition that an expression says; an empty one is met by every message.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(expression: &str) -> Result<Self, String> {
        if expression.len() > EXPRESSION_MAX_BYTES {
            return Err(format!("a condition has at most {EXPRESSION_MAX_BYTES} octets"));
        }
        let tokens = tokens(expression)?;
        if tokens.is_empty() {
            return Ok(Self::all());
        }
        let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
        let node = parser.or()?;
        match parser.next() {
            None => Ok(Self(node).flat()),
            Some(token) => Err(format!("{} is not expected there", shown(&token))),
        }
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(word, _) => format!("'{word}'"),
        Token::Sign(sign) => format!("'{sign}'"),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else {
            let (word, quoted, behind) = word(rest)?;
            tokens.push(Token::Word(word, quoted));
            rest = behind;
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

/// Reads a word: letters up to a space or a sign, with quoted parts.
fn word(text: &str) -> Result<(String, bool, &str), String> {
    let (mut word, mut quoted) = (String::new(), false);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '\'' || first == '"' {
            quoted = true;
            rest = &rest[1..];
            loop {
                let end = rest.find(first).ok_or("a quote is not closed")?;
                word.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                if !rest.starts_with(first) {
                    break;
                }
                word.push(first);
                rest = &rest[1..];
            }
            continue;
        }
        if first.is_whitespace() || "=!<>(),".contains(first) {
            break;
        }
        word.push(first);
        rest = &rest[first.len_utf8()..];
    }
    if rest.len() == text.len() {
        // A sign that is none, such as a lone exclamation mark.
        return Err(format!("'{}' is not expected there", text.chars().next().unwrap_or_default()));
    }
    Ok((word, quoted, rest))
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// Passes over a word of the language, if it is next.
    fn takes(&mut self, keyword: &str) -> bool {
        let found =
            matches!(self.tokens.get(self.at), Some(Token::Word(word, false)) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), String> {
        match self.next() {
            Some(Token::Sign(found)) if found == sign => Ok(()),
            Some(other) => Err(format!("'{sign}' is expected before {}", shown(&other))),
            None => Err(format!("'{sign}' is expected at the end")),
        }
    }

    fn or(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("a condition nests at most {DEPTH_MAX} deep"));
        }
        let mut nodes = vec![self.and()?];
        while self.takes("or") {
            nodes.push(self.and()?);
        }
        self.depth -= 1;
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
    }

    fn and(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.not()?];
        while self.takes("and") {
            nodes.push(self.not()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }

    fn not(&mut self) -> Result<Node, String> {
        let mut negated = false;
        while self.takes("not") {
            negated = !negated;
        }
        let node = if self.tokens.get(self.at) == Some(&Token::Sign("(")) {
            self.at += 1;
            let node = self.or()?;
            self.expect(")")?;
            node
        } else {
            self.comparison()?
        };
        Ok(if negated { Node::Not(Box::new(node)) } else { node })
    }

    fn comparison(&mut self) -> Result<Node, String> {
        let field = match self.next() {
            Some(Token::Word(name, _)) => Field::named(&name)?,
            Some(other @ Token::Sign(_)) => return Err(format!("a name is expected before {}", shown(&other))),
            None => return Err("a name is expected at the end".to_owned()),
        };
        let operator = match self.next() {
            Some(Token::Sign(sign)) => sign.to_owned(),
            Some(Token::Word(word, false)) => word.to_ascii_lowercase(),
            Some(other @ Token::Word(..)) => return Err(format!("an operator is expected before {}", shown(&other))),
            None => return Err("an operator is expected at the end".to_owned()),
        };
        let check = match &*operator {
            "exists" => Check::Exists,
            "in" => {
                self.expect("(")?;
                let mut literals = vec![self.value(&field)?];
                while self.tokens.get(self.at) == Some(&Token::Sign(",")) {
                    self.at += 1;
                    literals.push(self.value(&field)?);
                }
                self.expect(")")?;
                Check::OneOf(literals)
            }
            "=" | "==" => Check::OneOf(vec![self.value(&field)?]),
            "!=" | "<>" => {
                let same = Node::Test(field.clone(), Check::OneOf(vec![self.value(&field)?]));
                return Ok(Node::Not(Box::new(same)));
            }
            "<" => Check::Below(self.value(&field)?),
            "<=" => Check::AtMost(self.value(&field)?),
            ">" => Check::Above(self.value(&field)?),
            ">=" => Check::AtLeast(self.value(&field)?),
            "contains" => Check::Contains(self.text()?.into_bytes()),
            "starts_with" => Check::StartsWith(self.text()?.into_bytes()),
            "ends_with" => Check::EndsWith(self.text()?.into_bytes()),
            "matches" => Check::Matches(Box::new(pattern(&self.text()?, &field)?)),
            other => return Err(format!("'{other}' is no operator")),
        };
        Ok(Node::Test(field, check))
    }

    fn word(&mut self) -> Result<(String, bool), String> {
        match self.next() {
            Some(Token::Word(word, quoted)) => Ok((word, quoted)),
            Some(other @ Token::Sign(_)) => Err(format!("a value is expected before {}", shown(&other))),
            None => Err("a value is expected at the end".to_owned()),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        self.word().map(|(word, _)| word)
    }

    fn value(&mut self, field: &Field) -> Result<Literal, String> {
        let (word, quoted) = self.word()?;
        if *field == Field::Age {
            let ms = parse_duration_ms(&word);
            let ms = ms.ok_or_else(|| format!("'{word}' is no length of time: one looks like 90s or PT1H"))?;
            let number = Number::Integer(i64::try_from(ms).unwrap_or(i64::MAX));
            return Ok(Literal { text: word, number: Some(number) });
        }
        Ok(if quoted { Literal::quoted(word) } else { Literal::bare(word) })
    }
}

fn pattern(text: &str, field: &Field) -> Result<fancy_regex::Regex, String> {
    if *field == Field::Body {
        // Bodies are large, and need not be text.
        return Err("'matches' is not for bodies; 'contains' is".to_owned());
    }
    let regex = fancy_regex::RegexBuilder::new(text).backtrack_limit(BACKTRACK_LIMIT).build();
    regex.map_err(|cause| format!("'{text}' is no regular expression: {cause}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        for (expression, complaint) in [
            ("colour = red", "'colour' is nothing that a message has"),
            ("priority", "an operator is expected at the end"),
            ("priority >", "a value is expected at the end"),
            ("priority is 5", "'is' is no operator"),
            ("priority = 5 6", "'6' is not expected there"),
            ("(priority = 5", "')' is expected at the end"),
            ("priority in 5", "'(' is expected before '5'"),
            ("routing_key = 'a", "a quote is not closed"),
            ("age > soon", "'soon' is no length of time"),
            ("body matches x", "'matches' is not for bodies"),
            ("routing_key matches '('", "'(' is no regular expression"),
            ("!", "'!' is not expected there"),
            ("header. = 1", "needs the name of a header"),
        ] {
            let said = Condition::parse(expression).expect_err(expression);
            assert!(said.contains(complaint), "{expression}: {said}");
        }
        let deep = format!("{}priority = 1{}", "(".repeat(1000), ")".repeat(1000));
        assert!(Condition::parse(&deep).expect_err("too deep").contains("nests at most"));
        assert!(Condition::parse(&"x".repeat(10_000)).is_err());
        assert!(Condition::parse("  ").expect("nothing is asked").is_all());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[ a-z'\"=<>!(),.0-9é]{0,60}") {
            let _either = Condition::parse(&text);
        }
    }
}
