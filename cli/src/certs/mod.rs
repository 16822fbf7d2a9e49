//! `eventbus certs`: an authority for development, its certificates, and what is in them.
//!
//! Nothing is written over unless it is asked for, and a key is never readable by others, not even
//! for a moment: files are made whole under another name, then moved to where they belong.

pub(crate) mod args;
mod authority;
mod show;

use std::path::Path;

use eventbus::Tls;

use crate::certs::args::{
    CertsArgs, CertsCommand, ClientName, InitArgs, IssueArgs, RevokeArgs, ShowArgs,
};
use crate::certs::authority::Authority;
use crate::failure::Failure;
use crate::shadow::output;

/// Does what is asked; the answer is always yes.
pub(crate) fn run(args: &CertsArgs) -> Result<u8, Failure> {
    match &args.command {
        CertsCommand::Init(args) => init(args),
        CertsCommand::Issue(args) => issue(args),
        CertsCommand::Revoke(args) => revoke(args),
        CertsCommand::Show(args) => show(args),
    }?;
    Ok(0)
}

/// An authority in `directory`, and one certificate for a broker of this machine and its clients.
pub(crate) fn private(directory: &Path) -> Result<Tls, Failure> {
    let args = IssueArgs {
        name: ClientName("private".to_owned()),
        server: true,
        san: Vec::new(),
        days: 1,
        dir: directory.to_owned(),
        force: false,
    };
    Authority::make(directory, "private", false)?.issue(&args)?;
    let path = |file| directory.join(file);
    Ok(Tls::new(
        path("ca.pem"),
        path("private.pem"),
        path("private.key"),
    ))
}

fn init(args: &InitArgs) -> Result<(), Failure> {
    Authority::make(&args.dir, &args.name, args.force)?;
    tell(
        &args.dir,
        "ca.pem",
        "certificate of the authority; every end needs it",
    )?;
    tell(&args.dir, "ca.key", "its key; nobody else needs it")?;
    tell(&args.dir, "crl.pem", "list of what was revoked; empty")
}

fn issue(args: &IssueArgs) -> Result<(), Failure> {
    let name = args.name.0.as_str();
    let until = Authority::open(&args.dir)?.issue(args)?;
    let uses = if args.server {
        "clients and servers"
    } else {
        "clients"
    };
    let told = format!("certificate of `{name}` until {until}, for {uses}");
    tell(&args.dir, &format!("{name}.pem"), &told)?;
    tell(&args.dir, &format!("{name}.key"), "its key")
}

fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let name = args.name.0.as_str();
    let revoked = Authority::open(&args.dir)?.revoke(name)?;
    let told = format!("`{name}` revoked; {revoked} in the list");
    tell(&args.dir, "crl.pem", &told)
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let shown = show::read(&args.file)?;
    let text = if args.json {
        let json = serde_json::to_string_pretty(&shown);
        json.map_err(|reason| Failure::io("print the certificates", reason))?
    } else {
        let texts: Vec<_> = shown.iter().map(ToString::to_string).collect();
        texts.join("\n\n")
    };
    print(&text)
}

fn tell(directory: &Path, file: &str, what: &str) -> Result<(), Failure> {
    print(&format!("{}  {what}", directory.join(file).display()))
}

fn print(text: &str) -> Result<(), Failure> {
    output::print(&format!("{text}\n"))
}
