//! What part of the status is wanted: the query of `/status.json`.

/// Most services of one page.
const MOST: usize = 100;
/// Services of a page unless it says otherwise.
const USUAL: usize = 25;

/// What is wanted. What is not understood is left out: there is nobody to complain to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// `search`: services and real servers whose names have this in them, in lower case; empty: all.
    search: String,
    /// `troubled`: only services in trouble.
    pub(super) troubled: bool,
    /// `order`: which come first.
    pub(super) order: Order,
    /// `from`: the first one of the page.
    pub(super) from: usize,
    /// `limit`: how many.
    pub(super) limit: usize,
    /// `open`, any number of times: those whose real servers are wanted.
    open: Vec<String>,
    /// `shut`: those whose are not.
    shut: Vec<String>,
}

/// Which services come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// By protocol, address and port.
    #[default]
    Name,
    /// Those in trouble.
    Trouble,
    /// Those with most packets a second.
    Traffic,
    /// Those with most connections.
    Connections,
}

impl Query {
    /// From what stands behind the question mark.
    pub(super) fn parse(text: &str) -> Query {
        let mut query = Query {
            search: String::new(),
            troubled: false,
            order: Order::Name,
            from: 0,
            limit: USUAL,
            open: Vec::new(),
            shut: Vec::new(),
        };
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*key {
                "search" => query.search = value.trim().to_lowercase(),
                "troubled" => query.troubled = value == "1",
                "order" => {
                    query.order = match &*value {
                        "trouble" => Order::Trouble,
                        "traffic" => Order::Traffic,
                        "connections" => Order::Connections,
                        _ => Order::Name,
                    }
                }
                "from" => query.from = value.parse().unwrap_or_default(),
                "limit" => query.limit = value.parse().unwrap_or(USUAL).clamp(1, MOST),
                "open" => query.open.push(value.into_owned()),
                "shut" => query.shut.push(value.into_owned()),
                _ => {}
            }
        }
        query
    }

    /// Whether a name is searched for.
    pub(super) fn finds(&self, name: &str) -> bool {
        self.search.is_empty() || name.to_lowercase().contains(&self.search)
    }

    /// Whether a service is to be shown with its real servers. `unasked`: it is, unless it was shut.
    pub(super) fn opens(&self, name: &str, unasked: bool) -> bool {
        if unasked {
            !self.shut.iter().any(|shut| shut == name)
        } else {
            self.open.iter().any(|open| open == name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_kept_within_bounds() {
        let query =
            Query::parse("search=%20TCP+10.99.&troubled=1&order=traffic&from=50&limit=7&open=udp+a&shut=b");
        assert!(query.finds("tcp 10.99.0.1:80") && !query.finds("udp 10.99.0.1:80"));
        assert_eq!((query.troubled, query.order, query.from, query.limit), (true, Order::Traffic, 50, 7));
        assert!(query.opens("udp a", false) && !query.opens("b", false));
        assert!(query.opens("udp a", true) && !query.opens("b", true));
        let odd = Query::parse("limit=1000000000&from=-1&order=&what=%ff&troubled=yes&&=");
        assert_eq!((odd.limit, odd.from, odd.order, odd.troubled), (MOST, 0, Order::Name, false));
        assert_eq!(Query::parse("limit=0").limit, 1);
        assert!(Query::parse("").finds("anything"));
    }
}
