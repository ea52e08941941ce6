"""Certificate authorities for tests, made with openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def new_key(path: Path) -> Path:
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    return path


@dataclass(frozen=True)
class Certificate:
    """PEM files."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> tuple[bytes, bytes]:
        """Key and certificate, as gRPC's server takes them."""
        return self.key.read_bytes(), self.certificate.read_bytes()


class Authority:
    """Signs certificates; its own is the file ``certificate``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.certificate = folder, folder / f"{name}.pem"
        self._key = new_key(folder / f"{name}.key")
        wanted = ("-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:true")
        openssl("req", "-x509", "-new", "-key", self._key, "-out", self.certificate, *wanted)

    def issue(self, name: str, to: str = "DNS:localhost,IP:127.0.0.1", days: int = 1) -> Certificate:
        """A certificate for some hosts; one of -1 days has expired."""
        signed, request = self.folder / f"{name}.pem", self.folder / f"{name}.csr"
        key = new_key(self.folder / f"{name}.key")
        openssl("req", "-new", "-key", key, "-out", request, "-subj", f"/CN={name}", "-addext", f"subjectAltName={to}")
        signer = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-copy_extensions", "copy")
        openssl("x509", "-req", "-in", request, "-out", signed, *signer, "-days", days)
        return Certificate(signed, key)
