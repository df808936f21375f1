//! Small typed steps through the parse tree of a TOML text. Each complains where a value is not of the type
//! that it should be, and lets the reading go on, so that the operator sees all errors at once.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{Complaints, Site};
use super::keys;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) site: Site,
}

/// A table of the file.
pub(super) struct Table<'t, 'i> {
    entries: &'t DeTable<'i>,
    site: Site,
}

impl<'t, 'i> Table<'t, 'i> {
    /// The whole file.
    pub(super) fn root(entries: &'t Spanned<DeTable<'i>>, complaints: &mut Complaints<'_>) -> Self {
        let site = Site { offset: 0, key: String::new() };
        Table::open(entries.get_ref(), site, "", complaints)
    }

    /// Takes a table and complains of every key that `name` does not have in [`keys::KEYS`].
    fn open(entries: &'t DeTable<'i>, site: Site, name: &str, complaints: &mut Complaints<'_>) -> Self {
        let table = Table { entries, site };
        for key in entries.keys() {
            let word = key.get_ref().as_ref();
            if !keys::keys_of(name).contains(&word) {
                let site = Site { offset: key.span().start, key: table.path(word) };
                complaints.add(&site, format!("there is no key `{word}`"), keys::remedy(name, word));
            }
        }
        table
    }

    /// Where the table stands: for what is missing in it.
    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    fn path(&self, key: &str) -> String {
        if self.site.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.site.key) }
    }

    fn find(&self, key: &str) -> Option<At<&'t DeValue<'i>>> {
        let value = self.entries.get(key)?;
        Some(At { value: value.get_ref(), site: Site { offset: value.span().start, key: self.path(key) } })
    }

    /// Whether the key is there at all, be its value of the right type or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether the key is there and is not an empty array.
    pub(super) fn has_elements(&self, key: &str) -> bool {
        self.find(key).is_some_and(|at| !matches!(at.value, DeValue::Array(elements) if elements.is_empty()))
    }

    /// A string.
    pub(super) fn string(&self, key: &str, complaints: &mut Complaints<'_>) -> Option<At<String>> {
        string(self.find(key)?, complaints)
    }

    /// An array of strings.
    pub(super) fn strings(&self, key: &str, complaints: &mut Complaints<'_>) -> Option<At<Vec<At<String>>>> {
        self.list(key, "strings", complaints, string)
    }

    /// A whole number.
    pub(super) fn integer(&self, key: &str, complaints: &mut Complaints<'_>) -> Option<At<i128>> {
        integer(self.find(key)?, complaints)
    }

    /// An array of whole numbers.
    pub(super) fn integers(&self, key: &str, complaints: &mut Complaints<'_>) -> Option<At<Vec<At<i128>>>> {
        self.list(key, "whole numbers", complaints, integer)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &str, complaints: &mut Complaints<'_>) -> Option<At<bool>> {
        let At { value, site } = self.find(key)?;
        let DeValue::Boolean(value) = *value else {
            wrong_type(&site, value, "true or false", complaints);
            return None;
        };
        Some(At { value, site })
    }

    /// A table, `[name]`, whose last word is the key here.
    pub(super) fn table(&self, name: &str, complaints: &mut Complaints<'_>) -> Option<Table<'t, 'i>> {
        let key = name.rsplit('.').next().unwrap_or(name);
        let At { value, site } = self.find(key)?;
        let DeValue::Table(entries) = value else {
            wrong_type(&site, value, &format!("a table: write [{name}]"), complaints);
            return None;
        };
        Some(Table::open(entries, site, name, complaints))
    }

    /// An array of tables, `[[name]]`, whose last word is the key here. None is the same as an empty one.
    pub(super) fn tables(&self, name: &str, complaints: &mut Complaints<'_>) -> Vec<Table<'t, 'i>> {
        let key = name.rsplit('.').next().unwrap_or(name);
        let Some(At { value, site }) = self.find(key) else {
            return Vec::new();
        };
        let wanted = format!("an array of tables: write [[{name}]]");
        let DeValue::Array(elements) = value else {
            wrong_type(&site, value, &wanted, complaints);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let site = Site { offset: element.span().start, key: format!("{}[{index}]", site.key) };
            match element.get_ref() {
                DeValue::Table(entries) => tables.push(Table::open(entries, site, name, complaints)),
                other => wrong_type(&site, other, &wanted, complaints),
            }
        }
        tables
    }

    /// A number, with a fraction or without.
    pub(super) fn number(&self, key: &str, complaints: &mut Complaints<'_>) -> Option<At<f64>> {
        let at = self.find(key)?;
        if let DeValue::Float(number) = at.value {
            // The parser has read it already, so that it is one.
            let value = number.as_str().replace('_', "").parse().unwrap_or(f64::NAN);
            return Some(At { value, site: at.site });
        }
        if !matches!(at.value, DeValue::Integer(_)) {
            wrong_type(&at.site, at.value, "a number", complaints);
            return None;
        }
        integer(at, complaints).map(|At { value, site }| At { value: value as f64, site })
    }

    /// Where a key's value stands, if it is there.
    pub(super) fn site_of(&self, key: &str) -> Option<Site> {
        self.find(key).map(|at| at.site)
    }

    /// One table, `[name]`, or an array of them, `[[name]]`.
    pub(super) fn table_or_tables(&self, name: &str, complaints: &mut Complaints<'_>) -> Vec<Table<'t, 'i>> {
        let key = name.rsplit('.').next().unwrap_or(name);
        match self.find(key) {
            Some(At { value: DeValue::Table(entries), site }) => {
                vec![Table::open(entries, site, name, complaints)]
            }
            _ => self.tables(name, complaints),
        }
    }

    fn list<T>(
        &self,
        key: &str,
        of: &str,
        complaints: &mut Complaints<'_>,
        read: impl Fn(At<&DeValue<'_>>, &mut Complaints<'_>) -> Option<At<T>>,
    ) -> Option<At<Vec<At<T>>>> {
        let At { value, site } = self.find(key)?;
        let DeValue::Array(elements) = value else {
            wrong_type(&site, value, &format!("an array of {of}"), complaints);
            return None;
        };
        let mut values = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let site = Site { offset: element.span().start, key: format!("{}[{index}]", site.key) };
            values.extend(read(At { value: element.get_ref(), site }, complaints));
        }
        Some(At { value: values, site })
    }
}

fn string(At { value, site }: At<&DeValue<'_>>, complaints: &mut Complaints<'_>) -> Option<At<String>> {
    let DeValue::String(text) = value else {
        wrong_type(&site, value, "a string in quotes", complaints);
        return None;
    };
    Some(At { value: text.clone().into_owned(), site })
}

fn integer(At { value, site }: At<&DeValue<'_>>, complaints: &mut Complaints<'_>) -> Option<At<i128>> {
    let DeValue::Integer(number) = value else {
        wrong_type(&site, value, "a whole number", complaints);
        return None;
    };
    match i128::from_str_radix(number.as_str(), number.radix()) {
        Ok(value) => Some(At { value, site }),
        Err(_) => {
            complaints.add(&site, "the number is far too large", "give a smaller one");
            None
        }
    }
}

fn wrong_type(site: &Site, found: &DeValue<'_>, wanted: &str, complaints: &mut Complaints<'_>) {
    let found = match found {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    complaints.add(site, format!("this is {found}"), format!("make it {wanted}"));
}
