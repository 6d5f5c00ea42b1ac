/// Where random bytes come from. The binary wires the operating system's generator.
pub trait Rng: Send + Sync {
    /// Fills `bytes` with random data.
    fn fill(&self, bytes: &mut [u8]);
}
