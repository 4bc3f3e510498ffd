//! Standard error: messages, and how far a long command is.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is written where there is no terminal to draw a bar on.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Writes a message; a standard error that is closed is no reason to stop.
pub fn message(text: &str) {
    let _ = writeln!(std::io::stderr(), "kvadmin: {text}");
}

/// Whether and how progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Hidden,
    /// As a bar on a terminal.
    Bar,
    /// As a line each second.
    Lines,
}

impl Style {
    /// `asked`: the user wants it in any case. `piped_json`: a program reads the result.
    pub fn choose(asked: bool, stderr_is_terminal: bool, piped_json: bool) -> Self {
        match (asked, stderr_is_terminal, piped_json) {
            (true, true, _) | (false, true, false) => Self::Bar,
            (true, false, _) => Self::Lines,
            (false, _, true) | (false, false, false) => Self::Hidden,
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of files.
    Bytes,
    /// Operations.
    Operations,
    /// Milliseconds of a run of fixed length.
    Milliseconds,
}

/// How far a long command is. Messages go through it, so that they and the bar stay apart.
pub struct Progress {
    bar: ProgressBar,
    items: Arc<AtomicU64>,
    lines: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    /// Starts showing. `total`: if known; [`Self::more`] adds to it.
    pub fn start(style: Style, label: &'static str, unit: Unit, total: Option<u64>) -> Self {
        let bar = match (style, total) {
            (Style::Bar, Some(total)) => ProgressBar::new(total),
            (Style::Bar, None) => ProgressBar::no_length(),
            _ => ProgressBar::hidden(),
        };
        if let Ok(bar_style) = ProgressStyle::with_template(template(unit, total.is_some())) {
            bar.set_style(bar_style);
        }
        bar.set_prefix(label);
        if style == Style::Bar {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let items = Arc::new(AtomicU64::new(0));
        let lines = (style == Style::Lines)
            .then(|| tokio::spawn(write_lines(label, unit, bar.clone(), Arc::clone(&items))));
        Self { bar, items, lines }
    }

    /// More to do than was known.
    pub fn more(&self, amount: u64) {
        self.bar.inc_length(amount);
    }

    /// Some of it is done.
    pub fn advance(&self, amount: u64) {
        self.bar.inc(amount);
    }

    /// So much is done in all.
    pub fn set(&self, amount: u64) {
        self.bar.set_position(amount);
    }

    /// So much is done of so much in all.
    pub fn set_of(&self, amount: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(amount);
    }

    /// One more file is done.
    pub fn item(&self) {
        let items = self.items.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{items} files"));
        }
    }

    /// Writes a message above the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| message(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(lines) = &self.lines {
            lines.abort();
        }
        self.bar.finish_and_clear();
    }
}

fn template(unit: Unit, total: bool) -> &'static str {
    match (unit, total) {
        (Unit::Bytes, true) => "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}",
        (Unit::Bytes, false) => "{prefix} {spinner} {bytes} {bytes_per_sec} {msg}",
        (Unit::Operations, _) => "{prefix} [{bar:30}] {pos}/{len} {per_sec} eta {eta}",
        (Unit::Milliseconds, _) => "{prefix} [{bar:30}] {percent} % {elapsed}",
    }
}

async fn write_lines(label: &'static str, unit: Unit, bar: ProgressBar, items: Arc<AtomicU64>) {
    let started = Instant::now();
    loop {
        tokio::time::sleep(LINE_INTERVAL).await;
        let seconds = started.elapsed().as_secs_f64();
        let done = bar.position();
        let text = match unit {
            Unit::Bytes => {
                let (files, rate) = (items.load(Ordering::Relaxed), mb_per_second(done, seconds));
                format!("{label}: {files} files, {done} bytes, {rate:.1} MB/s")
            }
            Unit::Operations => format!("{label}: {done} operations in {seconds:.0} s"),
            Unit::Milliseconds => format!("{label}: {seconds:.0} s"),
        };
        message(&text);
    }
}

/// Megabytes (10^6 bytes) per second.
pub fn mb_per_second(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / 1e6 / seconds.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_needs_a_terminal_and_a_person() {
        assert_eq!(Style::choose(false, true, false), Style::Bar);
        assert_eq!(Style::choose(false, true, true), Style::Hidden);
        assert_eq!(Style::choose(false, false, false), Style::Hidden);
        assert_eq!(Style::choose(true, false, true), Style::Lines);
        assert_eq!(Style::choose(true, true, true), Style::Bar);
    }

    #[test]
    fn every_template_is_valid() {
        for unit in [Unit::Bytes, Unit::Operations, Unit::Milliseconds] {
            for total in [true, false] {
                assert!(ProgressStyle::with_template(template(unit, total)).is_ok());
            }
        }
    }

    #[test]
    fn a_megabyte_is_a_million_bytes() {
        assert!((mb_per_second(3_000_000, 2.0) - 1.5).abs() < 1e-12);
    }
}
