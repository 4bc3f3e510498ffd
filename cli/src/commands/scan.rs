//! `scan`: list keys in order.

use futures::TryStreamExt as _;
use kv_client::{Item, Scan};
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::keys::Range;
use crate::output::{Base64, JsonArray, Output};
use crate::table::{Align, Table};
use crate::{args, bytes_text, connect};

/// Values are cut at so many characters in a table.
const PREVIEW_WIDTH: usize = 40;

/// Runs the command.
///
/// # Errors
/// The cluster refuses.
pub async fn run(args: args::Scan, context: &mut Context) -> Result<Exit, Failure> {
    let client = connect::client(&context.global)?;
    let mut listing = Listing::begin(&mut context.out, args.keys_only)?;
    if let Some(scan) = plan(args) {
        let mut items = client.scan(scan);
        while !context.out.is_closed()
            && let Some(item) = items.try_next().await?
        {
            listing.item(&mut context.out, &item)?;
        }
    }
    listing.end(&mut context.out)?;
    Ok(Exit::Ok)
}

/// What to scan; `None`: nothing.
fn plan(args: args::Scan) -> Option<Scan> {
    let bytes = |key: Option<args::Key>| key.map(|key| key.0);
    let prefix = bytes(args.prefix).unwrap_or_default();
    let mut scan = Range::prefix(&prefix).and(bytes(args.from), bytes(args.to)).scan()?;
    if let Some(limit) = args.limit {
        scan = scan.limit(limit);
    }
    if let Some(revision) = args.revision {
        scan = scan.at_revision(revision);
    }
    Some(if args.keys_only { scan.keys_only() } else { scan })
}

#[derive(Serialize)]
struct JsonItem<'a> {
    key: Base64<'a>,
    revision: u64,
    value_bytes: u64,
    /// Left out with `--keys-only`.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Base64<'a>>,
    /// In seconds since 1970; left out where it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

/// The result, in one of its forms.
enum Listing {
    Json(JsonArray),
    Table { table: Table, keys_only: bool },
}

impl Listing {
    fn begin(out: &mut Output, keys_only: bool) -> Result<Self, Failure> {
        if out.is_json() {
            return Ok(Self::Json(JsonArray::begin(out)?));
        }
        let mut columns = vec![("KEY", Align::Left), ("REVISION", Align::Right), ("BYTES", Align::Right)];
        if !keys_only {
            columns.push(("VALUE", Align::Left));
        }
        Ok(Self::Table { table: Table::new(&columns), keys_only })
    }

    fn item(&mut self, out: &mut Output, item: &Item) -> Result<(), Failure> {
        let Item { key, revision, value_bytes, value, expires_at } = item;
        match self {
            Self::Json(array) => array.item(
                out,
                &JsonItem {
                    key: Base64(key),
                    revision: *revision,
                    value_bytes: *value_bytes,
                    value: value.as_deref().map(Base64),
                    expires_at: *expires_at,
                },
            ),
            Self::Table { table, keys_only } => {
                let mut cells = vec![bytes_text::format(key), revision.to_string(), value_bytes.to_string()];
                if !*keys_only {
                    let value = value.as_deref().unwrap_or_default();
                    cells.push(bytes_text::preview(value, PREVIEW_WIDTH));
                }
                table.row(out, cells)
            }
        }
    }

    fn end(self, out: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Json(array) => array.end(out),
            Self::Table { table, .. } => table.end(out),
        }
    }
}
