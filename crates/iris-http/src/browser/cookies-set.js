// Sets cookies and goes where they are looked for: in a frame of another site they may not be kept.
"use strict";

async function storage() {
  if (!("hasStorageAccess" in document) || (await document.hasStorageAccess())) {
    return true;
  }
  try {
    await document.requestStorageAccess();
    return true;
  } catch {
    return false;
  }
}

storage().then((has) => {
  if (has) {
    document.cookie = "KEYCLOAK_3P_COOKIE=supported; Max-Age=60; SameSite=None; Secure";
    document.cookie = "KEYCLOAK_3P_COOKIE_PLAIN=supported; Max-Age=60";
    location.replace("step2.html");
  } else {
    parent.postMessage("unsupported", "*");
  }
});
