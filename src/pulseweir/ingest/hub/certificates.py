"""Step 1: certificates of the hub: loaded, or made to be thrown away."""

import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pulseweir.clock import from_microseconds, real_microseconds
from pulseweir.errors import CertificateUnusable

CERTIFICATE_NAME = "hub.crt"
PRIVATE_KEY_NAME = "hub.key"
_LIFE = timedelta(days=30)


def make_certificate(
    directory: Path, host_names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
) -> tuple[Path, Path]:
    """Make a self-signed certificate for demonstrations; it is its own authority and holds 30 days.

    Args:
        directory: Where ``hub.crt`` and ``hub.key`` are written; the key is readable by its owner only.
        host_names: DNS names and addresses it is good for.

    Returns:
        Paths of the certificate and of the private key.
    """
    private_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_names[0])])
    now = from_microseconds(real_microseconds())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in host_names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private_key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True)
    certificate_path, key_path = directory / CERTIFICATE_NAME, directory / PRIVATE_KEY_NAME
    key_path.touch(mode=0o600)
    key_path.write_bytes(
        private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate_path, key_path


def server_context(certificate: Path, private_key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with this certificate.

    Raises:
        CertificateUnusable: A file is absent, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, private_key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateUnusable(str(certificate), error.strerror or type(error).__name__) from error
    return context


def client_context(authority: Path | None) -> ssl.SSLContext:
    """Trust for a client: one certificate, or the system's authorities.

    Raises:
        CertificateUnusable: The file is absent or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    except (OSError, ssl.SSLError) as error:
        raise CertificateUnusable(str(authority), error.strerror or type(error).__name__) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
