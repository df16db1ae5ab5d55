"""TLS of the SCP: the BCP 195 RFC 8996, 9325 Secure Transport Connection Profile (PS3.15 B.12).

That profile asks for TLS 1.2 and allows TLS 1.3, which is preferred; of BCP 195 come forward
secrecy, authenticated encryption, no compression and no renegotiation. TLS 1.3 has no others.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from .errors import ServerError
from .settings import ScpSettings

# RFC 9325 Section 4.2 recommends the suites with AES-GCM; ChaCha20-Poly1305 (RFC 7905) is as good
# and fast where a sender's processor has no AES.
_TLS_1_2_SUITES = ":".join(
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "@SECLEVEL=2",  # RSA keys of 2048 bits or more (RFC 9325 Section 4.5), whatever the system
    )
)


def server_context(settings: ScpSettings) -> ssl.SSLContext | None:
    """Return the context with which connections are accepted; None without a certificate.

    Raises
    ------
    ServerError
        If a file cannot be used; names the setting and the file.
    """
    if settings.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_SUITES)
    context.options |= (
        ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    )
    _load_identity(context, settings, settings.tls_certificate)
    if settings.tls_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, settings.tls_ca)
    return context


class _Password:
    """Hands out the password of the key, and knows whether it was asked for.

    Without one OpenSSL would ask on the terminal.
    """

    def __init__(self, file: Path | None) -> None:
        self.was_asked = False
        self._text = "" if file is None else _first_line(file)

    def __call__(self) -> str:
        self.was_asked = True
        return self._text


def _load_identity(context: ssl.SSLContext, settings: ScpSettings, certificate: Path) -> None:
    key = settings.tls_key or certificate
    key_setting = "tls_certificate" if settings.tls_key is None else "tls_key"
    _require_readable("tls_certificate", certificate)
    _require_readable(key_setting, key)
    password = _Password(settings.tls_key_password_file)
    try:
        context.load_cert_chain(certificate, key, password)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = _why_not(error, settings, certificate, key_setting, key, password)
        raise ServerError(reason) from None


def _why_not(
    error: Exception,
    settings: ScpSettings,
    certificate: Path,
    key_setting: str,
    key: Path,
    password: _Password,
) -> str:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"scp.{key_setting}: {key} is not the key of scp.tls_certificate {certificate}"
    if password.was_asked and settings.tls_key_password_file is None:
        return f"scp.{key_setting}: {key} is encrypted; set scp.tls_key_password_file"
    if password.was_asked:
        file = settings.tls_key_password_file
        return f"scp.tls_key_password_file: what {file} says does not open {key}"
    if not _holds_certificates(certificate):
        return f"scp.tls_certificate: {certificate} holds no certificate in PEM"
    said = str(getattr(error, "reason", "") or "").lower().replace("_", " ") or "not PEM"
    if "key too small" in said or "too weak" in said:
        return f"scp.tls_certificate: {certificate} is not strong enough ({said})"
    return f"scp.{key_setting}: {key} holds no private key that can be used ({said})"


def _load_authorities(context: ssl.SSLContext, file: Path) -> None:
    _require_readable("tls_ca", file)
    try:
        context.load_verify_locations(file)
    except (ssl.SSLError, OSError):
        raise ServerError(f"scp.tls_ca: {file} holds no certificates in PEM") from None


def _require_readable(setting: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise ServerError(f"scp.{setting}: {file} cannot be read: {error.strerror}") from None


def _first_line(file: Path) -> str:
    _require_readable("tls_key_password_file", file)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ServerError(f"scp.tls_key_password_file: {file} is no text in UTF-8") from None
    return lines[0] if lines else ""


def _holds_certificates(file: Path) -> bool:
    """Tell whether a file can be loaded as certificates, whatever they are for."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(file)
    except (ssl.SSLError, OSError):
        return False
    return True
