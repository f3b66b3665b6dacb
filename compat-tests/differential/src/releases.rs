//! Where 4.x, which Leveret follows, speaks differently from 3.10 in so many places that no scenario lists it. Each has its
//! row in `docs/deviations.md`; what Leveret really says is seen by `expect` lines.
//!
//! | Row | In 3.10 | In 4.x |
//! |---|---|---|
//! | `diff:last-death` | | dead letters have `x-last-death-exchange`, `-queue` and `-reason` |
//! | `diff:refused-right` | `access to queue 'q' … refused` | `configure access to …`, `write access to …`, `read access to …` |
//! | | | the mechanism ANONYMOUS, if it is offered |
//! | `diff:quorum-delivery-count` | `x-delivery-count` is 0 in a first delivery | there is none |

/// The rows that are accounted for here.
pub(crate) const ROWS: [&str; 3] = ["last-death", "refused-right", "quorum-delivery-count"];

/// What Leveret says, in the words of 3.10.
pub(crate) fn in_old_words(line: &str) -> String {
    let mut line = without_last_death(line);
    for right in ["configure", "write", "read"] {
        line = line.replace(&format!("ACCESS_REFUSED - {right} access to "), "ACCESS_REFUSED - access to ");
    }
    line.replace("mechanisms=\"AMQPLAIN ANONYMOUS PLAIN\"", "mechanisms=\"AMQPLAIN PLAIN\"")
}

fn without_last_death(line: &str) -> String {
    let end_mark = "x-last-death-reason=\"";
    let cut = || {
        let start = line.find(", x-last-death-exchange=")?;
        let value = start + line[start..].find(end_mark)? + end_mark.len();
        let end = value + line[value..].find('"')? + 1;
        Some(format!("{}{}", &line[..start], &line[end..]))
    };
    cut().unwrap_or_else(|| line.to_owned())
}

/// What the oracle says, without what only 3.10 has.
pub(crate) fn without_old_extras(line: &str) -> String {
    let count = "x-delivery-count=l:0";
    line.replace(&format!(" headers={{{count}}}"), "")
        .replace(&format!(", {count}"), "")
        .replace(&format!("{count}, "), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_left_out() {
        let line = r#"A.1 x | headers={x-death=[], x-last-death-exchange="", x-last-death-queue="q", x-last-death-reason="expired", y=1} body=b"#;
        assert_eq!(in_old_words(line), "A.1 x | headers={x-death=[], y=1} body=b");
        let line = "reply-text=\"ACCESS_REFUSED - write access to queue 'q'\"";
        assert_eq!(in_old_words(line), "reply-text=\"ACCESS_REFUSED - access to queue 'q'\"");
        assert_eq!(in_old_words("A.1 y"), "A.1 y");
    }

    #[test]
    fn what_is_old_is_left_out() {
        assert_eq!(without_old_extras("A | headers={x-delivery-count=l:0} body=b"), "A | body=b");
        assert_eq!(without_old_extras("A | headers={a=1, x-delivery-count=l:0} body=b"), "A | headers={a=1} body=b");
        let again = "A | headers={x-delivery-count=l:1} body=b";
        assert_eq!(without_old_extras(again), again);
    }
}
