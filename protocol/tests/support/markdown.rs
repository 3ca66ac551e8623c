//! Reads what the tests need from a Markdown document: headings, tables and fenced blocks. It
//! knows nothing of the protocol.

/// A table: the cells of its header, and of every row, without backticks around a whole cell.
pub(crate) struct Table {
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// A fenced block.
pub(crate) struct Block {
    /// What stands behind the opening fence.
    pub(crate) info: String,
    pub(crate) lines: Vec<String>,
    /// The line of the opening fence, from 1.
    pub(crate) at: usize,
}

#[derive(Default)]
pub(crate) struct Document {
    pub(crate) headings: Vec<String>,
    pub(crate) tables: Vec<Table>,
    pub(crate) blocks: Vec<Block>,
    /// All lines outside fenced blocks.
    pub(crate) prose: Vec<String>,
}

impl Document {
    pub(crate) fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut open: Option<Block> = None;
        let mut in_table = false;
        for (index, line) in text.lines().enumerate() {
            if let Some(block) = &mut open {
                if line == "```" {
                    document.blocks.extend(open.take());
                } else {
                    block.lines.push(line.to_owned());
                }
                continue;
            }
            if let Some(info) = line.strip_prefix("```") {
                open = Some(Block {
                    info: info.to_owned(),
                    lines: Vec::new(),
                    at: index + 1,
                });
                continue;
            }
            document.prose.push(line.to_owned());
            if line.starts_with('#') {
                document
                    .headings
                    .push(line.trim_start_matches('#').trim().to_owned());
            }
            let is_row = line.starts_with('|');
            match (is_row, in_table) {
                (true, false) => {
                    document.tables.push(Table {
                        header: cells(line),
                        rows: Vec::new(),
                    });
                }
                (true, true) if !line.starts_with("|---") => {
                    document.tables.last_mut().unwrap().rows.push(cells(line));
                }
                _ => {}
            }
            in_table = is_row;
        }
        assert!(open.is_none(), "a fenced block is not closed");
        document
    }

    /// The one table whose header begins with `cell`.
    pub(crate) fn table(&self, cell: &str) -> Option<&Table> {
        let mut found = self.tables.iter().filter(|table| table.header[0] == cell);
        let table = found.next();
        assert!(found.next().is_none(), "two tables begin with {cell}");
        table
    }
}

impl Table {
    /// The cells of one column, by its header.
    pub(crate) fn column(&self, name: &str) -> Vec<&str> {
        let index = self.header.iter().position(|cell| cell == name);
        let index = index.unwrap_or_else(|| panic!("no column {name} in {:?}", self.header));
        self.rows.iter().map(|row| row[index].as_str()).collect()
    }
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    let plain = |cell: &str| {
        let inside = cell
            .strip_prefix('`')
            .and_then(|cell| cell.strip_suffix('`'));
        inside
            .filter(|inside| !inside.contains('`'))
            .unwrap_or(cell)
            .to_owned()
    };
    inner.split('|').map(|cell| plain(cell.trim())).collect()
}
