//! What the machine itself does in a second: signatures and password hashes in a loop, in a process of
//! its own that can have the server's core.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};

use super::speed::Rate;
use crate::process;
use crate::subject::PROXY_CORE;

/// Bytes of a token that are signed.
const SIGNED_BYTES: usize = 900;
/// Parameters of new password hashes (Keycloak 26): KiB, passes, lanes, bytes.
const ARGON2: (u32, u32, u32, usize) = (7168, 5, 1, 32);

/// Does it for so many seconds and prints how often.
pub(super) fn run(kind: &str, seconds: u64) -> Result<()> {
    let duration = Duration::from_secs(seconds);
    let text = [b'x'; SIGNED_BYTES];
    let random = SystemRandom::new();
    let times = match kind {
        "RS256" => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048)?;
            let mut signature = vec![0; key.public_modulus_len()];
            times(duration, || {
                key.sign(&RSA_PKCS1_SHA256, &random, &text, &mut signature)
                    .map_err(|_| anyhow!("RS256"))
            })
        }
        "ES256" => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
            times(duration, || {
                key.sign(&random, &text)
                    .map(drop)
                    .map_err(|_| anyhow!("ES256"))
            })
        }
        "argon2" => {
            let (memory, passes, lanes, bytes) = ARGON2;
            let parameters = Params::new(memory, passes, lanes, Some(bytes));
            let parameters = parameters.map_err(|error| anyhow!("{error}"))?;
            let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
            let mut output = [0; ARGON2.3];
            times(duration, || {
                hash.hash_password_into(b"password", b"sixteen bytes of", &mut output)
                    .map_err(|error| anyhow!("{error}"))
            })
        }
        _ => bail!("unknown kind {kind}"),
    };
    println!("{}", times?);
    Ok(())
}

fn times(duration: Duration, mut job: impl FnMut() -> Result<()>) -> Result<u64> {
    let started = Instant::now();
    let mut times = 0;
    while started.elapsed() < duration {
        job()?;
        times += 1;
    }
    Ok(times)
}

/// Runs it on the server's core.
pub(super) fn measure(kind: &str, duration: Duration) -> Result<Rate> {
    let before = process::cpu_of_children();
    let seconds = duration.as_secs().to_string();
    let core = PROXY_CORE.to_string();
    let output = Command::new("taskset")
        .args(["--cpu-list", &core])
        .arg(std::env::current_exe()?)
        .args(["iris", "raw", kind, &seconds])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run taskset")?;
    ensure!(output.status.success(), "the loop of {kind} failed");
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Rate {
        times: text.trim().parse()?,
        wall: duration,
        cpu: process::cpu_of_children().saturating_sub(before),
    })
}
