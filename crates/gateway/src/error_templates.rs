//! Error bodies of one's own (Kong `error_template_*`).

use crate::errors::Format;
use crate::{Error, ErrorForms};

/// What is put into a template.
const VALUES_MAX: usize = 2;

/// The templates there are.
pub(crate) struct Templates {
    html: Option<Template>,
    json: Option<Template>,
    xml: Option<Template>,
    plain: Option<Template>,
}

/// The text around the values.
struct Template(Vec<String>);

impl Templates {
    /// `None` when there are none.
    pub(crate) fn new(forms: &ErrorForms) -> Result<Option<Box<Self>>, Error> {
        let all = [&forms.html, &forms.json, &forms.xml, &forms.plain];
        if all.into_iter().all(Option::is_none) {
            return Ok(None);
        }
        let template = |format, text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| Template::parse(format, text)).transpose()
        };
        Ok(Some(Box::new(Self {
            html: template("html", &forms.html)?,
            json: template("json", &forms.json)?,
            xml: template("xml", &forms.xml)?,
            plain: template("plain", &forms.plain)?,
        })))
    }

    /// The body of a format that has a template; the message is escaped for it.
    pub(crate) fn fill(&self, format: Format, message: &str, id: &str) -> Option<String> {
        let template = match format {
            Format::Html => &self.html,
            Format::Json => &self.json,
            Format::Xml => &self.xml,
            Format::Plain => &self.plain,
            Format::Nothing => return None,
        };
        template.as_ref().map(|it| it.fill(message, id))
    }
}

impl Template {
    /// Reads `%s` as a place for a value and `%%` as a percent sign; any other is one as well, for the
    /// sake of style sheets.
    fn parse(format: &'static str, text: &str) -> Result<Self, Error> {
        let mut parts = vec![String::new()];
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            if let Some(part) = parts.last_mut() {
                part.push_str(before);
            }
            if let Some(after) = after.strip_prefix('s') {
                parts.push(String::new());
                rest = after;
                continue;
            }
            if let Some(part) = parts.last_mut() {
                part.push('%');
            }
            rest = after.strip_prefix('%').unwrap_or(after);
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(rest);
        }
        let count = parts.len() - 1;
        if count > VALUES_MAX {
            return Err(Error::ErrorTemplate { format, count });
        }
        Ok(Self(parts))
    }

    fn fill(&self, message: &str, id: &str) -> String {
        let mut values = [message, id].into_iter();
        let mut body = String::new();
        for (at, part) in self.0.iter().enumerate() {
            if at > 0 {
                body.push_str(values.next().unwrap_or_default());
            }
            body.push_str(part);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, usize> {
        match Template::parse("html", text) {
            Ok(template) => Ok(template.fill("no", "id1")),
            Err(Error::ErrorTemplate { count, .. }) => Err(count),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn templates_have_two_places_at_most() {
        for (text, body) in [
            ("", ""),
            ("down", "down"),
            ("<p>%s</p>", "<p>no</p>"),
            ("%s %s", "no id1"),
            ("%s%s", "noid1"),
            ("width: 100%; %s 50%% %%s", "width: 100%; no 50% %s"),
            ("%", "%"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(body), "{text:?}");
        }
        assert_eq!(filled("%s %s %s"), Err(3));
    }
}
