//! The file that a report goes to: checked before the trace begins, so that an hour of tracing is not lost to a typing error, and never
//! overwritten silently.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};
use crate::report::story::Story;
use crate::report::{Format, Style, write};

/// A report file to come.
#[derive(Clone, Debug)]
pub struct Output {
    path: PathBuf,
    format: Format,
    force: bool,
}

impl Output {
    /// Checks that the file can be made: it is made for a moment and removed again.
    ///
    /// # Errors
    /// [`Kind::Usage`] when it exists and `force` was not given, else what the system says.
    pub fn check(path: &Path, format: Format, force: bool) -> Result<Self> {
        let output = Self { path: path.to_owned(), format, force };
        let existed = path.symlink_metadata().is_ok();
        drop(output.open()?);
        if !existed {
            std::fs::remove_file(path).context(path.display())?;
        }
        Ok(output)
    }

    /// Opens it for writing; an existing file is not emptied yet.
    fn open(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        options.write(true);
        if self.force {
            options.create(true).truncate(false)
        } else {
            options.create_new(true)
        };
        options.open(&self.path).map_err(|cause| {
            let path = self.path.display();
            if cause.kind() == std::io::ErrorKind::AlreadyExists {
                Error::new(Kind::Usage, format!("{path} exists")).next("choose another name, or say --force")
            } else {
                Error::failed(format!("{path} cannot be written: {cause}"))
                    .next("choose another place with -o FILE")
            }
        })
    }

    /// Writes the report.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, story: &Story, style: &Style) -> Result<()> {
        let file = self.open()?;
        file.set_len(0).context(self.path.display())?;
        let mut out = BufWriter::new(file);
        write(self.format, story, style, &mut out)?;
        out.flush().context(self.path.display())
    }

    /// Where it goes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
