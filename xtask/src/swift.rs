//! Swift: finding it, installing one for the tests, and running the package's tests and examples.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{install, model, paths, python, shell, swift_bridge, swift_snippets};

/// Debian's release that has Swift. Its libraries are newer than most systems', so it lives in a folder of its own.
const SUITE: &str = "trixie";
const PACKAGES: &str = "swiftlang,libstdc++-14-dev,libc6-dev,pkg-config,git,ca-certificates";

/// How `swift` is called.
pub enum Toolchain {
    /// A program of this machine.
    Own,
    /// A small Debian in this folder, entered with chroot.
    Debian(PathBuf),
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Toolchain::Own => write!(f, "swift of this machine"),
            Toolchain::Debian(folder) => write!(f, "swift of Debian {SUITE} in {}", folder.display()),
        }
    }
}

impl Toolchain {
    /// One that is there already.
    pub fn find() -> Option<Self> {
        let own = Command::new("swift").arg("--version").output().is_ok_and(|o| o.status.success());
        let folder = cache()?;
        own.then_some(Self::Own).or_else(|| folder.join(".done").exists().then(|| Self::Debian(folder.join("root"))))
    }

    /// One that is there, or that is installed now.
    pub fn ready() -> Result<Self> {
        if let Some(found) = Self::find() {
            return Ok(found);
        }
        let way_out = "install Swift 6 (swift.org/install) and run again";
        if cfg!(target_os = "macos") {
            bail!("there is no swift: {way_out}");
        }
        let present = |p: &str| Command::new(p).arg("--version").output().is_ok_and(|o| o.status.success());
        let root = shell::output(Command::new("id").arg("-u"))?.trim() == "0";
        if !root || !present("debootstrap") {
            bail!(
                "there is no swift: {way_out}; or, as root with debootstrap installed, `cargo xtask swift` installs one"
            );
        }
        let folder = cache().context("neither XDG_CACHE_HOME nor HOME says where Swift could be installed")?;
        let key = format!("{SUITE} {PACKAGES}");
        shell::once(&folder, &key, &format!("Swift, from Debian {SUITE} (3.3 GB, some minutes, once)"), || {
            // In a mount namespace of its own: nothing stays mounted, whatever happens.
            let mut debootstrap = Command::new("unshare");
            debootstrap.args(["--mount", "--propagation", "private", "debootstrap", "--variant=minbase"]);
            debootstrap.arg(format!("--include={PACKAGES}")).arg(SUITE).arg(folder.join("root"));
            shell::output(&mut debootstrap).map(|_| ())
        })?;
        Ok(Self::Debian(folder.join("root")))
    }

    /// `swift` with arguments, in a folder of the repository, with the library installed under `prefix`.
    pub fn command(&self, folder: &Path, prefix: &Path, arguments: &[impl AsRef<OsStr>]) -> Result<Command> {
        let lib = prefix.join("lib");
        let mut command = self.program("swift", folder)?;
        command.env("PKG_CONFIG_PATH", lib.join("pkgconfig"));
        command.args(arguments).args(["-Xlinker", "-rpath", "-Xlinker"]).arg(&lib);
        Ok(command)
    }

    /// A program of the toolchain, or one that it made, in a folder of the repository.
    pub fn program(&self, program: impl AsRef<OsStr>, folder: impl AsRef<Path>) -> Result<Command> {
        let mut command = match self {
            Toolchain::Own => {
                let mut command = Command::new(program);
                command.current_dir(folder);
                command
            }
            Toolchain::Debian(root) => {
                // The repository and what its links lead to, at the same paths inside.
                let script = r#"
                    set -e; root=$1; folder=$2; program=$3; shift 3
                    mount -t proc proc "$root/proc"
                    while [ "$1" != -- ]; do mkdir -p "$root$1"; mount --rbind "$1" "$root$1"; shift; done; shift
                    exec chroot "$root" /bin/sh -c 'cd "$1"; shift; exec "$@"' sh "$folder" "$program" "$@""#;
                let mut unshare = Command::new("unshare");
                unshare.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
                unshare.arg(root).arg(folder.as_ref()).arg(program);
                unshare.args(folders()?).arg("--");
                unshare
            }
        };
        // Cargo sets it, to its own folders: what is tested is what was installed.
        command.env_remove("LD_LIBRARY_PATH");
        Ok(command)
    }
}

/// The repository, and folders outside of it that its own links lead to.
fn folders() -> Result<Vec<PathBuf>> {
    let mut all = vec![paths::root()];
    for linked in [paths::models(), paths::wheel(), paths::mlx().join("blas")] {
        let folder = linked.canonicalize().with_context(|| format!("cannot find {}", linked.display()))?;
        if !all.iter().any(|there| folder.starts_with(there)) {
            all.push(folder);
        }
    }
    Ok(all)
}

/// The folder of the installed one.
fn cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("mlxterp/swift"))
}

/// The package's tests, the examples' tests, the snippets, the tour, which must say what the Python one says, and the app
/// with a Rust core of its own. Without Swift the step is left out, unless it is asked for by name or by `CI`.
pub fn test(asked: bool) -> Result<()> {
    let asked = asked || std::env::var_os("CI").is_some();
    let swift = match Toolchain::find() {
        None if !asked => {
            println!("   left out: there is no Swift here (`cargo xtask test --only swift` installs one where it can)");
            return Ok(());
        }
        _ => Toolchain::ready()?,
    };
    println!("   {swift}");
    shell::run(shell::cargo().args(["build", "--quiet", "--lib"]))?;
    let library = shell::target_directory()?.join("debug").join(install::file_name());
    let home = paths::root().join("target/swift");
    let prefix = home.join("prefix");
    install::run(&prefix, Some(&library))?;

    let (package, examples) = (paths::root(), paths::root().join("examples/swift"));
    let scratch = |name: &str| home.join(name).display().to_string();
    shell::run(&mut swift.command(&package, &prefix, &["test", "--scratch-path", &scratch("package")])?)?;
    let scratch = scratch("examples");
    shell::run(&mut swift.command(&examples, &prefix, &["test", "--scratch-path", &scratch])?)?;
    let snippets = home.join("snippets");
    for page in swift_snippets::write(&snippets)? {
        let own = snippets.join("build").display().to_string();
        let there = snippets.display().to_string();
        println!("   {page}");
        let run = ["run", "--quiet", "--package-path", &there, "--scratch-path", &own];
        shell::output(swift.command(&package, &prefix, &run)?.arg(page))?;
    }
    let path = model::fetch()?.display().to_string();
    let run = ["run", "--quiet", "--scratch-path", &scratch];
    let mut tour = swift.command(&examples, &prefix, &run)?;
    let said = shell::output(tour.args(["Tour", &path]))?;
    same(&said, &python_tour(&library, &path)?)?;
    swift_bridge::test(&swift, &home.join("bridge"), &path, &said)
}

fn python_tour(library: &Path, model: &str) -> Result<String> {
    let mut python = Command::new(python::environment("python")?);
    python.arg(paths::root().join("examples/python/tour.py")).arg(model);
    python.env("PYTHONPATH", paths::root().join("bindings/python")).env("MLXTERP_LIBRARY", library);
    shell::output(&mut python)
}

fn same(swift: &str, python: &str) -> Result<()> {
    if swift != python {
        bail!("the tour in Swift says\n{swift}\nand in Python\n{python}");
    }
    println!("   the tour says in Swift what it says in Python");
    Ok(())
}
