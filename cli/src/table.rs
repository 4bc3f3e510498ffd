//! Tables of plain text, written while their rows come in.

use crate::exit::Failure;
use crate::output::Output;

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// How many rows are kept back to find the width of the columns.
const ROWS_AHEAD: usize = 200;

/// A table. The first rows decide how wide the columns are; a wider cell further down shifts its row only.
/// Cells are ASCII ([`bytes_text`](crate::bytes_text) makes them so), one character per byte.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    /// Rows not written yet; the widths are not decided as long as `widths` is empty.
    waiting: Vec<Vec<String>>,
    widths: Vec<usize>,
}

impl Table {
    /// A table with these headings.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), waiting: Vec::new(), widths: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn row(&mut self, out: &mut Output, cells: Vec<String>) -> Result<(), Failure> {
        debug_assert_eq!(cells.len(), self.columns.len());
        if !self.widths.is_empty() {
            return out.line(&self.render(&cells));
        }
        self.waiting.push(cells);
        if self.waiting.len() >= ROWS_AHEAD { self.write_waiting(out) } else { Ok(()) }
    }

    /// Writes what is left; the headings also where there is no row.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn end(mut self, out: &mut Output) -> Result<(), Failure> {
        if self.widths.is_empty() { self.write_waiting(out) } else { Ok(()) }
    }

    fn write_waiting(&mut self, out: &mut Output) -> Result<(), Failure> {
        for line in self.lay_out() {
            out.line(&line)?;
        }
        Ok(())
    }

    fn lay_out(&mut self) -> Vec<String> {
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        let rows: Vec<_> = std::iter::once(headings).chain(std::mem::take(&mut self.waiting)).collect();
        self.widths = vec![0; self.columns.len()];
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.len());
            }
        }
        rows.iter().map(|row| self.render(row)).collect()
    }

    fn render(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for ((cell, width), (_, align)) in cells.iter().zip(&self.widths).zip(&self.columns) {
            let padding = " ".repeat(width.saturating_sub(cell.len()));
            match align {
                Align::Left => line.extend([cell, padding.as_str()]),
                Align::Right => line.extend([padding.as_str(), cell]),
            }
            line.push_str("  ");
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("KEY", Align::Left), ("BYTES", Align::Right), ("VALUE", Align::Left)]);
        for (key, bytes, value) in [("a", "1", "x"), ("longer", "1234567", "")] {
            table.waiting.push([key, bytes, value].map(str::to_owned).to_vec());
        }
        let lines = table.lay_out();
        assert_eq!(lines, ["KEY       BYTES  VALUE", "a             1  x", "longer  1234567"]);
        let later = ["wider than before", "5", "y"].map(str::to_owned);
        assert_eq!(table.render(&later), "wider than before        5  y");
    }

    #[test]
    fn headings_stand_alone_where_nothing_is() {
        assert_eq!(Table::new(&[("ID", Align::Right)]).lay_out(), ["ID"]);
    }
}
