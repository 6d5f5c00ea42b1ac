//! `o28m keys`: the nine files of the gateway's signing key set.

use std::path::Path;

use o28m_jose::slots::{Slot, Slots};
use o28m_rotator as rotator;
use serde_json::json;

use crate::cli::{Keys, KeysAction, Output};
use crate::exit::{Failure, Outcome};
use crate::{ambient, terminal};

/// Runs the command.
///
/// # Errors
/// Unreadable or unusable key files; exit 3 for a failed check, 4 where keys would be overwritten.
pub fn run(command: &Keys) -> Outcome {
    match &command.action {
        KeysAction::Generate { cn, out, force } => generate(cn, out, *force),
        KeysAction::Rotate { cn, dir } => rotate(cn, dir),
        KeysAction::Show {
            dir,
            jwks,
            check,
            output,
        } => show(dir, *jwks, *check, *output),
    }
}

fn generate(common_name: &str, out: &Path, force: bool) -> Outcome {
    let existing = if out.exists() {
        rotator::load_directory(out)?
    } else {
        Slots::default()
    };
    if !force && existing != Slots::default() {
        let text = format!(
            "{} holds keys already; use --force to replace them",
            out.display()
        );
        return Err(Failure::WouldOverwrite(text));
    }
    let ambient = ambient::system();
    let slots = Slots {
        next: Some(rotator::generate_slot(&ambient, common_name)?),
        active: Some(rotator::generate_slot(&ambient, common_name)?),
        previous: None,
    };
    rotator::write_directory(out, &slots)?;
    report(&slots);
    Ok(())
}

fn rotate(common_name: &str, dir: &Path) -> Outcome {
    let lock = rotator::lock_directory(dir)?;
    let slots = rotator::load_directory(dir)?;
    let slots = rotator::rotate(
        slots,
        rotator::generate_slot(&ambient::system(), common_name)?,
    );
    lock.write(&slots)?;
    report(&slots);
    Ok(())
}

fn show(dir: &Path, jwks: bool, check: bool, output: Output) -> Outcome {
    let slots = rotator::load_directory(dir)?;
    if jwks {
        terminal::json(&json!(slots.jwk_set()));
    } else if output == Output::Json {
        let slot = |(name, slot): (&str, &Slot)| json!({"slot": name, "kid": slot.kid});
        terminal::json(&json!(filled(&slots).map(slot).collect::<Vec<_>>()));
    } else {
        let line = |(name, slot): (&str, &Slot)| format!("{name:<9}{}\n", slot.kid);
        terminal::data(&filled(&slots).map(line).collect::<String>());
    }
    let usable = slots
        .active
        .as_ref()
        .is_some_and(|slot| slot.signing_key().is_ok());
    if check && !usable {
        return Err(Failure::CheckFailed(
            "the active slot cannot sign".to_owned(),
        ));
    }
    Ok(())
}

fn filled(slots: &Slots) -> impl Iterator<Item = (&'static str, &Slot)> {
    let named = [
        ("next", &slots.next),
        ("active", &slots.active),
        ("previous", &slots.previous),
    ];
    named
        .into_iter()
        .filter_map(|(name, slot)| Some((name, slot.as_ref()?)))
}

fn report(slots: &Slots) {
    for (name, slot) in filled(slots) {
        terminal::progress(&format!("{name}: {}", slot.kid));
    }
}
