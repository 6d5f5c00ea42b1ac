// Node.js 18, which Debian 12 has, keeps what `openid-client` needs in a module.
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;
globalThis.CryptoKey ??= webcrypto.CryptoKey;
