//! Reads a TOML document against the list of settings, and reports all mistakes at once.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::settings::{Fallback, SETTINGS, Setting};

/// One thing that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The line, from 1; `None` where something is missing from the whole file.
    pub(crate) line: Option<usize>,
    /// The setting, as `table.key`.
    pub(crate) key: String,
    /// What is wrong and what is expected.
    pub(crate) what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}: {}", self.key, self.what)
    }
}

/// The document on its way to being understood.
pub(crate) struct Reader<'a> {
    text: &'a str,
    tables: BTreeMap<String, Vec<Spanned<DeTable<'a>>>>,
    mistakes: Vec<Mistake>,
}

/// One table of the document: `[name]`, or one of several `[[name]]`.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) table: &'static str,
    pub(crate) index: usize,
}

impl<'a> Reader<'a> {
    /// Splits the text into its tables; unknown tables and keys are mistakes already here.
    pub(crate) fn new(text: &'a str) -> Self {
        let mut reader = Self { text, tables: BTreeMap::new(), mistakes: Vec::new() };
        match DeTable::parse(text) {
            Ok(document) => reader.split(document.into_inner()),
            Err(e) => {
                let line = e.span().map(|span| reader.line(&span));
                reader.mistakes.push(Mistake { line, key: "file".into(), what: e.message().to_owned() });
            }
        }
        reader
    }

    fn split(&mut self, document: DeTable<'a>) {
        for (name, value) in document {
            let span = name.span();
            let name = name.into_inner().into_owned();
            if !SETTINGS.iter().any(|s| s.table == name) {
                let known = known(SETTINGS.iter().map(|s| s.table));
                self.mistake(&span, name, format!("no such table; the tables are {known}"));
                continue;
            }
            let value_span = value.span();
            let tables = match value.into_inner() {
                DeValue::Table(table) => vec![Spanned::new(span, table)],
                DeValue::Array(items) => {
                    let mut tables = Vec::new();
                    for item in items {
                        let span = item.span();
                        match item.into_inner() {
                            DeValue::Table(table) => tables.push(Spanned::new(span, table)),
                            _ => self.mistake(&span, name.clone(), "expected a table".into()),
                        }
                    }
                    tables
                }
                _ => {
                    self.mistake(&value_span, name, "expected a table".into());
                    continue;
                }
            };
            for table in &tables {
                self.refuse_unknown_keys(&name, table.get_ref());
            }
            self.tables.insert(name, tables);
        }
    }

    fn refuse_unknown_keys(&mut self, name: &str, table: &DeTable<'_>) {
        for key in table.keys() {
            if !SETTINGS.iter().any(|s| s.table == name && s.key == key.get_ref().as_ref()) {
                let known = known(SETTINGS.iter().filter(|s| s.table == name).map(|s| s.key));
                let key_name = format!("{name}.{}", key.get_ref());
                self.mistake(&key.span(), key_name, format!("no such setting; [{name}] has {known}"));
            }
        }
    }

    /// How many tables of this name there are.
    pub(crate) fn count(&self, table: &str) -> usize {
        self.tables.get(table).map_or(0, Vec::len)
    }

    /// Records a mistake at a setting.
    pub(crate) fn wrong(&mut self, at: At, key: &'static str, what: impl Into<String>) {
        let line = self
            .find(at, key)
            .map(|(span, _)| span)
            .or_else(|| self.tables.get(at.table).and_then(|tables| tables.get(at.index)).map(Spanned::span));
        let line = line.map(|span| self.line(&span));
        self.mistakes.push(Mistake { line, key: format!("{}.{key}", at.table), what: what.into() });
    }

    /// What was wrong, in the order of the lines; nothing if all is well.
    pub(crate) fn finish(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|m| m.line.unwrap_or(usize::MAX));
        self.mistakes
    }

    pub(crate) fn text(&mut self, at: At, key: &'static str) -> Option<String> {
        self.read(at, key, "a text in quotes", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn path(&mut self, at: At, key: &'static str) -> Option<PathBuf> {
        self.read(at, key, "a path in quotes", |value| {
            value.as_str().filter(|s| !s.is_empty()).map(PathBuf::from)
        })
    }

    pub(crate) fn boolean(&mut self, at: At, key: &'static str) -> Option<bool> {
        self.read(at, key, "true or false", |value| value.as_bool())
    }

    pub(crate) fn duration(&mut self, at: At, key: &'static str) -> Option<Duration> {
        let expected = "a duration such as \"30s\", \"10m\", \"72h\" or \"30d\"";
        self.read(at, key, expected, |value| parse_duration(value.as_str()?))
    }

    pub(crate) fn size(&mut self, at: At, key: &'static str) -> Option<u64> {
        self.read(at, key, "a size such as \"64KiB\" or \"256MiB\"", |value| parse_size(value.as_str()?))
    }

    pub(crate) fn number(&mut self, at: At, key: &'static str, range: Range<u32>) -> Option<u32> {
        let expected = format!("a whole number from {} to {}", range.start, range.end - 1);
        self.read(at, key, &expected, |value| {
            let digits: String = value.as_integer()?.as_str().chars().filter(|c| *c != '_').collect();
            digits.parse().ok().filter(|n| range.contains(n))
        })
    }

    pub(crate) fn texts(&mut self, at: At, key: &'static str) -> Option<Vec<String>> {
        self.read(at, key, "a list of texts", |value| {
            value.as_array()?.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        })
    }

    pub(crate) fn choice<T: Copy>(&mut self, at: At, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.read(at, key, &format!("one of {}", names.join(", ")), |value| {
            let given = value.as_str()?;
            choices.iter().find(|(name, _)| *name == given).map(|(_, choice)| *choice)
        })
    }

    fn find(&self, at: At, key: &str) -> Option<(Range<usize>, &DeValue<'a>)> {
        let table = self.tables.get(at.table)?.get(at.index)?;
        table
            .get_ref()
            .iter()
            .find(|(name, _)| name.get_ref().as_ref() == key)
            .map(|(_, v)| (v.span(), v.get_ref()))
    }

    /// The given value, else the default; `None` with a mistake where neither is to be had, and without
    /// one where the setting is optional.
    fn read<T>(
        &mut self,
        at: At,
        key: &'static str,
        expected: &str,
        convert: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Option<T> {
        let setting = setting(at.table, key);
        if let Some((span, value)) = self.find(at, key) {
            let converted = convert(value);
            if converted.is_none() {
                self.mistake(&span, format!("{}.{key}", at.table), format!("expected {expected}"));
            }
            return converted;
        }
        match setting.fallback {
            Fallback::Default(literal) => {
                let value = DeValue::parse(literal).expect("defaults are TOML: a test reads them all");
                let converted = convert(value.get_ref());
                assert!(converted.is_some(), "the default of {}.{key} is not {expected}", at.table);
                converted
            }
            Fallback::Required(_) => {
                self.wrong(at, key, format!("is needed: expected {expected}"));
                None
            }
            Fallback::Optional(_) => None,
        }
    }

    fn mistake(&mut self, span: &Range<usize>, key: String, what: String) {
        let line = Some(self.line(span));
        self.mistakes.push(Mistake { line, key, what });
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.text.as_bytes().iter().take(span.start).filter(|b| **b == b'\n').count() + 1
    }
}

fn setting(table: &str, key: &str) -> &'static Setting {
    SETTINGS.iter().find(|s| s.table == table && s.key == key).expect("every setting that is read is listed")
}

fn known<'s>(names: impl Iterator<Item = &'s str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    names.join(", ")
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}
