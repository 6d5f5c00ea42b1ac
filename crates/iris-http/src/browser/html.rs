//! HTML that cannot be injected into: markup comes from the program alone, everything else is escaped.

/// A growing document.
#[derive(Default)]
pub(crate) struct Html(String);

impl Html {
    /// Appends markup, which never holds a value.
    pub(crate) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Appends a value, between tags or between the quotes of an attribute.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        self
    }

    /// Appends a part made before.
    pub(crate) fn append(&mut self, part: Self) -> &mut Self {
        self.0.push_str(&part.0);
        self
    }

    /// An attribute with its value, a space before it.
    pub(crate) fn attribute(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.markup(" ").markup(name).markup("=\"");
        self.text(value).markup("\"")
    }

    /// A field that the form brings back.
    pub(crate) fn hidden(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.markup("<input type=\"hidden\"");
        self.attribute("name", name).attribute("value", value);
        self.markup(">\n")
    }

    /// The document as UTF-8.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_values() {
        let mut html = Html::default();
        html.markup("<p").attribute("title", "\" onclick='x'");
        html.markup(">").text("<script>&</script>").markup("</p>");
        let text = String::from_utf8(html.into_bytes()).unwrap();
        let expected =
            "<p title=\"&quot; onclick=&#39;x&#39;\">&lt;script&gt;&amp;&lt;/script&gt;</p>";
        assert_eq!(text, expected);
    }
}
