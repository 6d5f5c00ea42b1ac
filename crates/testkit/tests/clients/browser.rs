//! The pages in headless Chromium, on the way to and from a web site that relies on `openid-client`.
//!
//! Every test ends with a look at the browser's log: a blocked style sheet or script would be in it.

use serde_json::json;

use crate::site::{CLIENT, PASSWORD, PERSON, REALM, SECRET, Site};
use crate::webdriver::Look;

const VISITOR: &str = "anna <anna@example.com>";
const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";
const SPACE: &str = "\u{E00D}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_in_stays_signed_in_and_signs_out() {
    let Some(site) = Site::open(Look::default()).await else {
        return;
    };
    let browser = &site.browser;
    site.begin("").await;
    let title = browser.title().await;
    assert_eq!(title, "Sign in to your account - People of Example");
    browser.picture("login").await;

    site.submit(PERSON, "wrong").await;
    let problem = browser.text("#input-error").await;
    assert_eq!(problem, "Invalid username or password.");
    assert_eq!(browser.attribute("#password", "aria-invalid").await, "true");
    assert_eq!(browser.attribute("#username", "value").await, PERSON);
    assert_eq!(browser.focus().await, "password");
    browser.picture("login-wrong").await;
    // Somebody who does not exist is told the same.
    site.submit("nobody", "wrong").await;
    assert_eq!(browser.text("#input-error").await, problem);

    site.submit(PERSON, PASSWORD).await;
    assert_eq!(site.visitor().await, VISITOR);

    // Single sign-on: no form, however silently asked.
    for parameters in ["", "prompt=none"] {
        site.begin(parameters).await;
        assert_eq!(site.visitor().await, VISITOR);
    }
    site.begin("prompt=login").await;
    site.submit(PERSON, PASSWORD).await;
    assert_eq!(site.visitor().await, VISITOR);

    // Without a hint whose login it is, the person is asked.
    browser.open(&format!("{}/logout?hint=no", site.url)).await;
    assert_eq!(browser.text("h1").await, "Logging out");
    browser.picture("logout").await;
    browser.click("#kc-logout").await;
    assert_eq!(site.visitor().await, "nobody");
    site.begin("prompt=none").await;
    assert_eq!(site.visitor().await, "error: login_required");

    site.begin("").await;
    site.submit(PERSON, PASSWORD).await;
    assert_eq!(site.visitor().await, VISITOR);
    browser.open(&format!("{}/logout", site.url)).await;
    assert_eq!(site.visitor().await, "nobody");
    site.begin("prompt=none").await;
    assert_eq!(site.visitor().await, "error: login_required");
    let url = format!("/realms/{REALM}/protocol/openid-connect/logout");
    browser.open(&site.platform.iris(&url)).await;
    assert_eq!(browser.text("h1").await, "You are logged out");
    browser.picture("logged-out").await;
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_passwords_locks_the_account_and_tells_no_difference() {
    let Some(site) = Site::open(Look::default()).await else {
        return;
    };
    site.realm(json!({"bruteForceProtected": true, "failureFactor": 2,
        "quickLoginCheckMilliSeconds": 0, "waitIncrementSeconds": 60}))
        .await;
    site.begin("").await;
    for _ in 0..2 {
        site.submit(PERSON, "wrong").await;
        let problem = site.browser.text("#input-error").await;
        assert_eq!(problem, "Invalid username or password.");
    }
    // The right password, too late.
    site.submit(PERSON, PASSWORD).await;
    let problem = site.browser.text("#input-error").await;
    assert_eq!(problem, "Invalid username or password.");
    let attempts = site.platform.iris(&format!(
        "/admin/realms/{REALM}/attack-detection/brute-force/users"
    ));
    let _ = site.admin.send("DELETE", &attempts, "").await.expect(204);
    site.submit(PERSON, PASSWORD).await;
    assert_eq!(site.visitor().await, VISITOR);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_must_change_is_changed_on_the_way() {
    let Some(site) = Site::open(Look::default()).await else {
        return;
    };
    site.realm(json!({"passwordPolicy": "length(8)"})).await;
    site.person(json!({"requiredActions": ["UPDATE_PASSWORD"]}))
        .await;
    let browser = &site.browser;
    site.begin("").await;
    site.submit(PERSON, PASSWORD).await;
    assert_eq!(browser.text("h1").await, "Update password");
    browser.picture("new-password").await;
    let change = async |new: &str, again: &str| {
        browser.fill("#password-new", new).await;
        browser.fill("#password-confirm", again).await;
        browser.click("#kc-submit").await;
    };
    change("another-password", "a-typing-mistake").await;
    assert_eq!(browser.text("#input-error").await, "Passwords don't match.");
    change("short", "short").await;
    let problem = "The password does not meet the rules of this realm.";
    assert_eq!(browser.text("#input-error").await, problem);
    browser.picture("new-password-short").await;
    change("another-password", "another-password").await;
    assert_eq!(site.visitor().await, VISITOR);
    site.begin("prompt=login").await;
    site.submit(PERSON, PASSWORD).await;
    assert!(browser.has("#input-error").await);
    site.submit(PERSON, "another-password").await;
    assert_eq!(site.visitor().await, VISITOR);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_allowed_with_its_code() {
    let Some(site) = Site::open(Look::default()).await else {
        return;
    };
    let (browser, http) = (&site.browser, &site.platform.http);
    let endpoint = |name: &str| {
        let path = format!("/realms/{REALM}/protocol/openid-connect/{name}");
        site.platform.iris(&path)
    };
    let client = [("client_id", CLIENT), ("client_secret", SECRET)];
    let begun = http
        .form(&endpoint("auth/device"), &client)
        .await
        .expect(200);
    let begun = begun.json();
    let mut poll = client.to_vec();
    poll.push(("grant_type", "urn:ietf:params:oauth:grant-type:device_code"));
    poll.push(("device_code", begun["device_code"].as_str().unwrap()));
    let early = http
        .form(&endpoint("token"), &poll)
        .await
        .expect(400)
        .json();
    assert_eq!(early["error"], "authorization_pending");

    let address = begun["verification_uri"].as_str().unwrap();
    browser.open(address).await;
    browser.picture("device").await;
    browser.fill("#device-user-code", "NOSU-CHCO").await;
    browser.click("#kc-submit").await;
    assert_eq!(
        browser.text("#input-error").await,
        "Invalid code, please try again."
    );
    let code = begun["user_code"].as_str().unwrap();
    browser.fill("#device-user-code", code).await;
    browser.click("#kc-submit").await;
    site.submit(PERSON, PASSWORD).await;
    assert_eq!(browser.text("h1").await, "Allow this device?");
    assert!(browser.text("main").await.contains("The Web Site"));
    browser.picture("device-question").await;
    browser.click("#kc-login").await;
    assert_eq!(browser.text("h1").await, "Device login successful");
    browser.picture("device-allowed").await;
    // Devices may ask once a second only.
    let tokens = o28m_testkit::eventually("the device's tokens", async || {
        let reply = http.form(&endpoint("token"), &poll).await;
        (reply.status == 200).then(|| reply.json())
    })
    .await;
    assert_eq!(tokens["token_type"], "Bearer");
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_speak_german_and_english() {
    let look = Look {
        languages: "de",
        ..Look::default()
    };
    let Some(site) = Site::open(look).await else {
        return;
    };
    let browser = &site.browser;
    site.begin("").await;
    assert_eq!(browser.text("h1").await, "Bei deinem Konto anmelden");
    assert_eq!(browser.attribute("html", "lang").await, "de");
    site.submit(PERSON, "falsch").await;
    let problem = browser.text("#input-error").await;
    assert_eq!(problem, "Ungültiger Benutzername oder Passwort.");
    browser.picture("login-german").await;
    site.begin("ui_locales=en").await;
    assert_eq!(browser.text("h1").await, "Sign in to your account");
    // The choice outlives a mistake.
    site.submit(PERSON, "wrong").await;
    assert_eq!(
        browser.text("#input-error").await,
        "Invalid username or password."
    );
    let nowhere = format!("/realms/{REALM}/protocol/openid-connect/auth?client_id=nosuch");
    browser.open(&site.platform.iris(&nowhere)).await;
    assert_eq!(browser.text("h1").await, "Es tut uns leid ...");
    browser.picture("error-german").await;
    // That page is a 400, which the log tells.
    let complaints = browser.complaints().await;
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    assert!(complaints[0]["message"].as_str().unwrap().contains(" 400 "));
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_needs_scripts() {
    let look = Look {
        scripts: false,
        ..Look::default()
    };
    let Some(site) = Site::open(look).await else {
        return;
    };
    let browser = &site.browser;
    // Scripts are off indeed: what only browsers without them show is there.
    browser
        .open("data:text/html,<noscript><p id='off'>off</p></noscript>")
        .await;
    assert_eq!(browser.text("#off").await, "off");
    site.person(json!({"requiredActions": ["UPDATE_PASSWORD"]}))
        .await;
    site.begin("").await;
    site.submit(PERSON, "wrong").await;
    assert!(browser.has("#input-error").await);
    site.submit(PERSON, PASSWORD).await;
    browser.fill("#password-new", "another-password").await;
    browser.fill("#password-confirm", "another-password").await;
    browser.click("#kc-submit").await;
    assert_eq!(site.visitor().await, VISITOR);
    // A response by form waits for its button to be pressed.
    site.begin("response_mode=form_post").await;
    assert_eq!(browser.text("h1").await, "Back to the application");
    browser.picture("form-post").await;
    browser.click("button").await;
    assert_eq!(site.visitor().await, VISITOR);
    browser.open(&format!("{}/logout?hint=no", site.url)).await;
    browser.click("#kc-logout").await;
    assert_eq!(site.visitor().await, "nobody");
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_by_form_is_sent_by_itself_where_scripts_run() {
    let Some(site) = Site::open(Look::default()).await else {
        return;
    };
    site.begin("response_mode=form_post").await;
    site.submit(PERSON, PASSWORD).await;
    assert_eq!(site.visitor().await, VISITOR);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyboard_is_enough() {
    let Some(site) = Site::open(Look::default()).await else {
        return;
    };
    let browser = &site.browser;
    site.realm(json!({"rememberMe": true})).await;
    site.begin("").await;
    assert_eq!(browser.focus().await, "username");
    browser.press(&format!("{PERSON}{TAB}")).await;
    assert_eq!(browser.focus().await, "password");
    browser.press(&format!("{PASSWORD}{TAB}")).await;
    assert_eq!(browser.focus().await, "rememberMe");
    browser.press(SPACE).await;
    browser.press(TAB).await;
    assert_eq!(browser.focus().await, "kc-login");
    browser.picture("login-keyboard").await;
    browser.press(ENTER).await;
    assert_eq!(site.visitor().await, VISITOR);
    browser.open(&format!("{}/logout?hint=no", site.url)).await;
    assert_eq!(browser.text("h1").await, "Logging out");
    browser.press(TAB).await;
    assert_eq!(browser.focus().await, "kc-logout");
    browser.press(ENTER).await;
    assert_eq!(site.visitor().await, "nobody");
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_screens_show_all_of_a_page() {
    let look = Look {
        languages: "de",
        size: (320, 480),
        ..Look::default()
    };
    let Some(site) = Site::open(look).await else {
        return;
    };
    let browser = &site.browser;
    let name =
        "A client with a name that-is-longer-than-any-small-screen-is-wide-and-has-no-spaces";
    site.client(json!({"name": name})).await;
    let fits = async || {
        let width = browser
            .evaluate("document.documentElement.scrollWidth")
            .await;
        assert!(width.as_u64().unwrap() <= 320, "{width}");
    };
    site.begin("").await;
    site.submit(PERSON, "falsch").await;
    assert!(browser.text("main").await.contains(name));
    fits().await;
    browser.picture("login-small").await;
    site.person(json!({"requiredActions": ["UPDATE_PASSWORD"]}))
        .await;
    site.submit(PERSON, PASSWORD).await;
    assert_eq!(browser.text("h1").await, "Passwort ändern");
    fits().await;
    browser.picture("new-password-small").await;
    browser
        .open(&site.platform.iris(&format!("/realms/{REALM}/device")))
        .await;
    assert_eq!(browser.text("h1").await, "Anmeldung eines Geräts");
    fits().await;
    site.finish().await;
}
