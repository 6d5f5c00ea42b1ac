/// The words of a `scope` parameter, in order, each once (RFC 6749 section 3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Vec<String>);

impl Scopes {
    /// Splits a parameter; an absent or empty one has no words.
    #[must_use]
    pub fn parse(parameter: Option<&str>) -> Self {
        let mut words: Vec<String> = Vec::new();
        for word in parameter.unwrap_or_default().split_whitespace() {
            if !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
        Self(words)
    }

    /// Whether `word` was asked for.
    #[must_use]
    pub fn contains(&self, word: &str) -> bool {
        self.0.iter().any(|known| known == word)
    }

    /// The words.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::Scopes;

    #[test]
    fn words_are_kept_once_in_order() {
        let scopes = Scopes::parse(Some(" b a  b "));
        assert_eq!(scopes.iter().collect::<Vec<_>>(), ["b", "a"]);
        assert!(scopes.contains("a") && !scopes.contains("c"));
        assert_eq!(Scopes::parse(None), Scopes::default());
    }
}
