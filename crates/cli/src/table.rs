//! Tables for people: aligned columns, a wrapped remark at the end of a row, details beneath it; as a list where the
//! terminal is too narrow for columns.

use comfy_table::{
    Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row as Line, Table as Layout, Width,
};

use crate::terminal::Terminal;

/// Columns between two columns of a table.
const GAP: u16 = 2;

/// Columns that a remark needs to be worth a column of its own; beneath its row it may have all.
const REMARK: u16 = 28;

/// How a table is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Columns of the terminal; `None` where lines may be of any length.
    pub width: Option<u16>,
    /// Whether results are coloured.
    pub colour: bool,
}

impl Style {
    /// What suits standard output.
    pub fn of_stdout(terminal: &Terminal) -> Self {
        // Without a terminal there is no width: lines are never wrapped for a program. Some terminals do not know
        // theirs, and say 0.
        let width = Layout::new().width().filter(|width| *width > 0);
        Self { width, colour: terminal.stdout_takes_colours() }
    }
}

/// How a cell is to be felt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing to do.
    Good,
    /// Work was, or will be, done.
    Busy,
    /// Not done, and not at fault.
    Idle,
    /// At fault.
    Bad,
}

impl Tone {
    const fn colour(self) -> Color {
        match self {
            Self::Good => Color::Green,
            Self::Busy => Color::Cyan,
            Self::Idle => Color::Yellow,
            Self::Bad => Color::Red,
        }
    }
}

/// A column's heading.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    name: &'static str,
    numeric: bool,
}

impl Column {
    /// A column of words.
    pub const fn text(name: &'static str) -> Self {
        Self { name, numeric: false }
    }

    /// A column of numbers, flush right.
    pub const fn number(name: &'static str) -> Self {
        Self { name, numeric: true }
    }
}

/// One row: as many cells as there are columns, the first a name, the second a result.
#[derive(Debug, Clone)]
pub struct Row {
    /// The cells; an empty one has nothing to say.
    pub cells: Vec<String>,
    /// The tone of the result.
    pub tone: Tone,
    /// Why.
    pub remark: Option<String>,
    /// Lines beneath the row.
    pub details: Vec<String>,
}

/// Rows under headings. The heading of the remarks is `why`.
#[derive(Debug, Clone)]
pub struct Table {
    /// The headings.
    pub columns: Vec<Column>,
    /// The rows, in order.
    pub rows: Vec<Row>,
}

impl Table {
    /// The table's lines, the last one ended too. Nothing where there are no rows.
    pub fn render(&self, style: &Style) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let widths = self.widths();
        let fixed = widths.iter().sum::<u16>() + GAP * (widths.len() as u16 - 1);
        let longest = self.rows.iter().filter_map(|row| row.remark.as_deref()).map(width_of).max().unwrap_or(0);
        let lines = match style.width {
            None => self.rows(&widths, style, Remarks::Beside(longest.max(1))),
            Some(width) if fixed > width => self.list(width, style),
            Some(width) => {
                let room = width.saturating_sub(fixed + GAP);
                if longest > room && room < REMARK {
                    self.rows(&widths, style, Remarks::Beneath(width))
                } else {
                    self.rows(&widths, style, Remarks::Beside(room.max(1)))
                }
            }
        };
        lines.into_iter().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    fn widths(&self) -> Vec<u16> {
        let widest = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(index));
            cells.map(|cell| width_of(cell)).max().unwrap_or(0).max(width_of(column.name))
        };
        self.columns.iter().enumerate().map(widest).collect()
    }

    fn rows(&self, widths: &[u16], style: &Style, remarks: Remarks) -> Vec<String> {
        let remarked = self.rows.iter().any(|row| row.remark.is_some());
        let heads = self.columns.iter().map(|column| self.cell(column.name, column.numeric));
        let beside = match remarks {
            Remarks::Beside(room) if remarked => Some(room),
            Remarks::Beside(_) | Remarks::Beneath(_) => None,
        };
        let mut lines = layout(heads.chain(beside.map(|_| Cell::new("why"))), widths, beside, style);
        let room = match remarks {
            Remarks::Beneath(width) => Some(width),
            Remarks::Beside(_) => style.width,
        };
        for row in &self.rows {
            let remark = row.remark.as_deref().unwrap_or_default();
            let cells = row.cells.iter().zip(&self.columns).enumerate().map(|(index, (text, column))| {
                let cell = self.cell(text, column.numeric);
                if index == 1 && style.colour { cell.fg(row.tone.colour()) } else { cell }
            });
            lines.extend(layout(cells.chain(beside.map(|_| Cell::new(remark))), widths, beside, style));
            if beside.is_none() && !remark.is_empty() {
                lines.extend(indented(remark, 2, room));
            }
            for detail in &row.details {
                lines.extend(indented(detail, 4, room));
            }
        }
        lines
    }

    /// Every row as a few lines of their own.
    fn list(&self, width: u16, style: &Style) -> Vec<String> {
        let mut lines = Vec::new();
        for row in &self.rows {
            let mut head = row.cells.iter().take(2).map(String::as_str);
            let (name, result) = (head.next().unwrap_or_default(), head.next().unwrap_or_default());
            if width_of(name) + GAP + width_of(result) > width {
                lines.extend(indented(name, 0, Some(width)));
                lines.extend(indented(result, 2, Some(width)));
            } else {
                let cell = Cell::new(result);
                let cell = if style.colour { cell.fg(row.tone.colour()) } else { cell };
                let widths = [width_of(name).max(1), width_of(result).max(1)];
                lines.extend(layout([Cell::new(name), cell], &widths, None, style));
            }
            let facts: Vec<String> = (row.cells.iter().zip(&self.columns).skip(2))
                .filter(|(cell, _)| !cell.is_empty())
                .map(|(cell, column)| format!("{} {cell}", column.name))
                .collect();
            if !facts.is_empty() {
                lines.extend(indented(&facts.join(", "), 2, Some(width)));
            }
            if let Some(remark) = &row.remark {
                lines.extend(indented(remark, 2, Some(width)));
            }
            for detail in &row.details {
                lines.extend(indented(detail, 4, Some(width)));
            }
        }
        lines
    }

    fn cell(&self, text: &str, numeric: bool) -> Cell {
        let alignment = if numeric { CellAlignment::Right } else { CellAlignment::Left };
        Cell::new(text).set_alignment(alignment)
    }
}

/// Where remarks go.
#[derive(Clone, Copy)]
enum Remarks {
    /// Into a last column of this width.
    Beside(u16),
    /// Under their rows, in lines of this width.
    Beneath(u16),
}

/// The lines of one row: fixed columns, and a wrapped last one where there is room for it.
fn layout(cells: impl IntoIterator<Item = Cell>, widths: &[u16], last: Option<u16>, style: &Style) -> Vec<String> {
    let mut layout = Layout::new();
    layout.load_preset(comfy_table::presets::NOTHING);
    layout.set_content_arrangement(ContentArrangement::Dynamic);
    if style.colour {
        layout.enforce_styling();
        layout.style_text_only();
    } else {
        layout.force_no_tty();
    }
    layout.add_row(Line::from(cells.into_iter().collect::<Vec<_>>()));
    let widths: Vec<u16> = widths.iter().copied().chain(last).collect();
    layout.set_width(widths.iter().sum::<u16>() + GAP * widths.len() as u16);
    for (column, width) in layout.column_iter_mut().zip(widths) {
        column.set_padding((0, GAP));
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width + GAP)));
    }
    layout.lines().collect()
}

/// `text` behind `indent` spaces, wrapped to `width`.
fn indented(text: &str, indent: u16, width: Option<u16>) -> Vec<String> {
    let room = width.map_or_else(|| width_of(text), |width| width.saturating_sub(indent)).max(1);
    let plain = Style { width, colour: false };
    let margin = " ".repeat(indent.into());
    layout([Cell::new(text)], &[room], None, &plain).into_iter().map(|line| margin.clone() + &line).collect()
}

/// Columns that `text` takes: its longest line.
fn width_of(text: &str) -> u16 {
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    u16::try_from(longest).unwrap_or(u16::MAX / 4).min(u16::MAX / 4)
}
