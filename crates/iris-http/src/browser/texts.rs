//! What pages say, in English and German.

/// A language of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    German,
}

impl Language {
    /// The value of `lang` and `Content-Language`.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }

    /// The language of a tag such as `de-AT`.
    fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_']).next()?;
        if primary.eq_ignore_ascii_case("de") {
            return Some(Self::German);
        }
        primary.eq_ignore_ascii_case("en").then_some(Self::English)
    }

    /// The first language known of: `ui_locales`, `Accept-Language`, the realm's, English.
    pub(crate) fn choose(
        ui_locales: Option<&str>,
        accept: Option<&str>,
        realm: Option<&str>,
    ) -> Self {
        let asked = ui_locales.and_then(|tags| tags.split_whitespace().find_map(Self::of_tag));
        asked
            .or_else(|| accept.and_then(accepted))
            .or_else(|| realm.and_then(Self::of_tag))
            .unwrap_or(Self::English)
    }
}

/// The known language of highest weight in `Accept-Language` (RFC 9110 section 12.5.4).
fn accepted(header: &str) -> Option<Language> {
    let mut best: Option<(u16, Language)> = None;
    for item in header.split(',').take(32) {
        let mut parts = item.split(';');
        let language = parts.next().and_then(Language::of_tag);
        let weight = parts.find_map(|part| part.trim().strip_prefix("q="));
        let weight = weight.map_or(1000, |text| thousandths(text.trim()));
        if let Some(language) = language.filter(|_| weight > 0)
            && best.is_none_or(|(known, _)| weight > known)
        {
            best = Some((weight, language));
        }
    }
    best.map(|(_, language)| language)
}

/// A weight such as `0.8` in thousandths; 0 for anything else.
fn thousandths(text: &str) -> u16 {
    let weight: f32 = text.parse().unwrap_or(0.0);
    // A comparison per step: weights have three digits, and numbers need no conversion this way.
    (0..=1000_u16)
        .rev()
        .find(|step| f32::from(*step) <= weight * 1000.0)
        .unwrap_or(0)
}

/// A text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    SignIn,
    SignInTo,
    Username,
    UsernameOrEmail,
    Password,
    RememberMe,
    SignInButton,
    WrongCredentials,
    AccountDisabled,
    NewPasswordTitle,
    NewPasswordHint,
    NewPassword,
    RepeatPassword,
    Submit,
    PasswordMissing,
    PasswordMismatch,
    PasswordTooLong,
    PasswordUnchanged,
    PasswordPolicy,
    Sorry,
    MissingParameter,
    InvalidParameter,
    ClientNotFound,
    ClientDisabled,
    BearerOnly,
    FlowOff,
    Expired,
    ExpiredTitle,
    CookieMissing,
    ActionUnsupported,
    LogoutRedirect,
    HttpsRequired,
    RealmDisabled,
    RealmNotFound,
    Busy,
    Unexpected,
    BadRequest,
    LogoutTitle,
    LogoutQuestion,
    LogoutButton,
    LoggedOutTitle,
    LoggedOut,
    LogoutFrames,
    ConsentTitle,
    ConsentQuestion,
    ScopeProfile,
    ScopeEmail,
    ScopeAddress,
    ScopePhone,
    ScopeOffline,
    ScopeRoles,
    DeviceTitle,
    DeviceHint,
    DeviceCode,
    DeviceCodeWrong,
    DeviceQuestionTitle,
    DeviceQuestion,
    DeviceAs,
    DeviceWarning,
    Allow,
    Deny,
    DeviceAllowedTitle,
    DeviceAllowed,
    DeviceDeniedTitle,
    DeviceDenied,
    ContinueTitle,
    Continue,
}

impl Text {
    /// The text in a language.
    pub(crate) const fn say(self, language: Language) -> &'static str {
        let (english, german) = self.both();
        match language {
            Language::English => english,
            Language::German => german,
        }
    }

    /// The text of a key that the consent texts of built-in client scopes are.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        Some(match key {
            "${profileScopeConsentText}" => Self::ScopeProfile,
            "${emailScopeConsentText}" => Self::ScopeEmail,
            "${addressScopeConsentText}" => Self::ScopeAddress,
            "${phoneScopeConsentText}" => Self::ScopePhone,
            "${offlineAccessScopeConsentText}" => Self::ScopeOffline,
            "${rolesScopeConsentText}" => Self::ScopeRoles,
            _ => return None,
        })
    }

    #[expect(
        clippy::too_many_lines,
        reason = "a table, one row per text, that is read as one"
    )]
    const fn both(self) -> (&'static str, &'static str) {
        match self {
            Self::SignIn => ("Sign in to your account", "Bei deinem Konto anmelden"),
            Self::SignInTo => ("to continue to", "weiter zu"),
            Self::Username => ("Username", "Benutzername"),
            Self::UsernameOrEmail => ("Username or email", "Benutzername oder E-Mail"),
            Self::Password => ("Password", "Passwort"),
            Self::RememberMe => ("Remember me", "Angemeldet bleiben"),
            Self::SignInButton => ("Sign In", "Anmelden"),
            Self::WrongCredentials => (
                "Invalid username or password.",
                "Ungültiger Benutzername oder Passwort.",
            ),
            Self::AccountDisabled => (
                "Account is disabled, contact your administrator.",
                "Das Konto ist gesperrt, bitte wende dich an die Administration.",
            ),
            Self::NewPasswordTitle => ("Update password", "Passwort ändern"),
            Self::NewPasswordHint => (
                "You need to change your password to activate your account.",
                "Du musst dein Passwort ändern, um dein Konto zu aktivieren.",
            ),
            Self::NewPassword => ("New password", "Neues Passwort"),
            Self::RepeatPassword => ("Confirm password", "Passwort bestätigen"),
            Self::Submit => ("Submit", "Absenden"),
            Self::PasswordMissing => ("Please specify password.", "Bitte gib ein Passwort ein."),
            Self::PasswordMismatch => (
                "Passwords don't match.",
                "Die Passwörter stimmen nicht überein.",
            ),
            Self::PasswordTooLong => ("The password is too long.", "Das Passwort ist zu lang."),
            Self::PasswordUnchanged => (
                "The new password must differ from the old one.",
                "Das neue Passwort muss sich vom alten unterscheiden.",
            ),
            Self::PasswordPolicy => (
                "The password does not meet the rules of this realm.",
                "Das Passwort entspricht nicht den Regeln dieses Realms.",
            ),
            Self::Sorry => ("We are sorry...", "Es tut uns leid ..."),
            Self::MissingParameter => ("Missing parameters:", "Fehlender Parameter:"),
            Self::InvalidParameter => ("Invalid parameter:", "Ungültiger Parameter:"),
            Self::ClientNotFound => ("Client not found.", "Client nicht gefunden."),
            Self::ClientDisabled => ("Client disabled.", "Client deaktiviert."),
            Self::BearerOnly => (
                "Bearer-only applications are not allowed to initiate browser login.",
                "Bearer-only-Anwendungen dürfen keine Anmeldung im Browser beginnen.",
            ),
            Self::FlowOff => (
                "Client is not allowed to initiate browser login.",
                "Der Client darf keine Anmeldung im Browser beginnen.",
            ),
            Self::Expired => (
                "This page has expired. Go back to the application and sign in again.",
                "Diese Seite ist abgelaufen. Gehe zurück zur Anwendung und melde dich erneut an.",
            ),
            Self::ExpiredTitle => ("Page has expired", "Die Seite ist abgelaufen"),
            Self::CookieMissing => (
                "Cookie not found. Please make sure cookies are enabled in your browser.",
                "Cookie nicht gefunden. Bitte erlaube Cookies in deinem Browser.",
            ),
            Self::ActionUnsupported => (
                "Your account is not fully set up. Contact your administrator. Pending:",
                "Dein Konto ist nicht vollständig eingerichtet. Bitte wende dich an die \
                 Administration. Ausstehend:",
            ),
            Self::LogoutRedirect => ("Invalid redirect uri", "Ungültige Redirect-URI"),
            Self::HttpsRequired => ("HTTPS required", "HTTPS erforderlich"),
            Self::RealmDisabled => ("Realm not enabled", "Realm nicht aktiviert"),
            Self::RealmNotFound => ("Realm does not exist", "Realm existiert nicht"),
            Self::Busy => (
                "The service is busy. Please try again in a moment.",
                "Der Dienst ist ausgelastet. Bitte versuche es gleich noch einmal.",
            ),
            Self::Unexpected => (
                "An internal server error has occurred",
                "Ein interner Serverfehler ist aufgetreten",
            ),
            Self::BadRequest => ("Invalid Request", "Ungültige Anfrage"),
            Self::LogoutTitle => ("Logging out", "Abmeldung"),
            Self::LogoutQuestion => ("Do you want to log out?", "Möchtest du dich abmelden?"),
            Self::LogoutButton => ("Logout", "Abmelden"),
            Self::LoggedOutTitle => ("You are logged out", "Du bist abgemeldet"),
            Self::LoggedOut => (
                "You can close this window.",
                "Du kannst dieses Fenster schließen.",
            ),
            Self::LogoutFrames => (
                "You are being logged out of these applications:",
                "Du wirst von diesen Anwendungen abgemeldet:",
            ),
            Self::ConsentTitle => ("Grant access", "Zugriff gewähren"),
            Self::ConsentQuestion => ("asks for access to:", "bittet um Zugriff auf:"),
            Self::ScopeProfile => ("User profile", "Benutzerprofil"),
            Self::ScopeEmail => ("Email address", "E-Mail-Adresse"),
            Self::ScopeAddress => ("Address", "Adresse"),
            Self::ScopePhone => ("Phone number", "Telefonnummer"),
            Self::ScopeOffline => ("Offline access", "Offline-Zugriff"),
            Self::ScopeRoles => ("User roles", "Benutzerrollen"),
            Self::DeviceTitle => ("Device login", "Anmeldung eines Geräts"),
            Self::DeviceHint => (
                "Enter the code that your device shows.",
                "Gib den Code ein, den dein Gerät anzeigt.",
            ),
            Self::DeviceCode => ("Code", "Code"),
            Self::DeviceCodeWrong => (
                "Invalid code, please try again.",
                "Ungültiger Code, bitte versuche es noch einmal.",
            ),
            Self::DeviceQuestionTitle => ("Allow this device?", "Dieses Gerät erlauben?"),
            Self::DeviceQuestion => (
                "A device asks for access on behalf of you, through:",
                "Ein Gerät bittet um Zugriff in deinem Namen, durch:",
            ),
            Self::DeviceAs => ("Signed in as", "Angemeldet als"),
            Self::DeviceWarning => (
                "Only allow it if you have the device with this code in front of you.",
                "Erlaube es nur, wenn du das Gerät mit diesem Code vor dir hast.",
            ),
            Self::Allow => ("Allow", "Erlauben"),
            Self::Deny => ("Deny", "Ablehnen"),
            Self::DeviceAllowedTitle => ("Device login successful", "Gerät angemeldet"),
            Self::DeviceAllowed => (
                "You may close this browser window and go back to your device.",
                "Du kannst dieses Fenster schließen und zu deinem Gerät zurückkehren.",
            ),
            Self::DeviceDeniedTitle => ("Device login failed", "Gerät nicht angemeldet"),
            Self::DeviceDenied => (
                "The device was not allowed to act on behalf of you.",
                "Das Gerät darf nicht in deinem Namen handeln.",
            ),
            Self::ContinueTitle => ("Back to the application", "Zurück zur Anwendung"),
            Self::Continue => ("Continue", "Weiter"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_goes_before_the_browser_and_the_realm() {
        let choose = Language::choose;
        assert_eq!(choose(None, None, None), Language::English);
        assert_eq!(choose(None, None, Some("de")), Language::German);
        let german = Some("fr, en;q=0.5, de-AT;q=0.8");
        assert_eq!(choose(None, german, Some("en")), Language::German);
        assert_eq!(choose(Some("xx en-GB"), german, None), Language::English);
        assert_eq!(choose(None, Some("de;q=0, *"), None), Language::English);
        assert_eq!(choose(None, Some("de;q=x"), None), Language::English);
    }
}
