"""Object stores: ``s3://`` and ``gs://`` addresses become those of the web, which the one reader of ranges reads as any other.

A signature in the address (SigV4 in the query) opens one file for some minutes, whatever part of it is asked for. So a file of a store has
the same requests, retries and names of failures as one of a web server, and GDAL reads it in the same way too.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any, Final
from urllib.parse import quote

from mdive.cube.failures import Unreadable
from mdive.cube.signing import Secret, Signed
from mdive.errors import InputError

GOOD_FOR: Final = 900.0
"""Seconds for which a signature opens a file. Botocore renews temporary credentials 10 to 15 minutes before they end, so that a signature
never outlives its credentials."""

GOOGLE: Final = "https://storage.googleapis.com"


class S3:
    """Files of S3 and of stores that speak like it.

    Credentials are those that botocore finds: the environment, the shared files, a profile, or the machine's role. The environment also
    says ``AWS_NO_SIGN_REQUEST`` (open buckets; botocore is not needed), ``AWS_REQUEST_PAYER``, ``AWS_REGION``, ``AWS_ENDPOINT_URL`` and
    ``AWS_VIRTUAL_HOSTING``, and GDAL's ``AWS_S3_ENDPOINT`` with ``AWS_HTTPS``.
    """

    def __init__(self) -> None:
        self._client: Any = None
        self._making = threading.Lock()

    def opens(self, href: str) -> str | None:
        """Return the address itself: a signature opens one file."""
        return href if href.startswith("s3://") else None

    def secret(self, key: str, href: str, now: float) -> Secret:  # noqa: ARG002
        """Return the address on the web."""
        bucket, name, version = _named(href)
        if _says("AWS_NO_SIGN_REQUEST"):
            return Secret(open_address(bucket, name, version))
        return Secret(self._presigned(bucket, name, version), now + GOOD_FOR)

    def sign(self, href: str, secret: Secret) -> Signed:  # noqa: ARG002
        """Return the address on the web, and who pays."""
        payer = os.environ.get("AWS_REQUEST_PAYER")
        return Signed(secret.value, {"x-amz-request-payer": payer} if payer and not _says("AWS_NO_SIGN_REQUEST") else {})

    def _presigned(self, bucket: str, name: str, version: str | None) -> str:
        what = {"Bucket": bucket, "Key": name, "VersionId": version, "RequestPayer": os.environ.get("AWS_REQUEST_PAYER")}
        given = {field: value for field, value in what.items() if value}
        client = self._made(bucket)
        from botocore.exceptions import BotoCoreError, NoCredentialsError, ParamValidationError

        try:
            address: str = client.generate_presigned_url("get_object", Params=given, ExpiresIn=int(GOOD_FOR))
        except ParamValidationError as error:
            raise _refused(f"{bucket!r} is no bucket, or {name!r} no key.") from error
        except NoCredentialsError as error:
            raise _no_credentials(bucket) from error
        except BotoCoreError as error:
            raise InputError(
                f"s3://{bucket} cannot be signed for: {type(error).__name__}.", "Renew the log-in of your AWS profile."
            ) from error
        return address

    def _made(self, bucket: str) -> Any:
        with self._making:
            if self._client is None:
                self._client = _client(bucket)
            return self._client


class Google:
    """Open files of Google Cloud Storage."""

    def opens(self, href: str) -> str | None:
        """Return the address itself."""
        return href if href.startswith("gs://") else None

    def secret(self, key: str, href: str, now: float) -> Secret:  # noqa: ARG002
        """Return the address on the web."""
        bucket, _, name = href.removeprefix("gs://").partition("/")
        return Secret(f"{GOOGLE}/{quote(bucket)}/{_quoted(name)}")

    def sign(self, href: str, secret: Secret) -> Signed:  # noqa: ARG002
        """Return the address on the web."""
        return Signed(secret.value)


def open_address(bucket: str, name: str, version: str | None = None) -> str:
    """Return the address on the web of a file that everybody may read."""
    region, endpoint = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"), _endpoint()
    scheme, _, host = (endpoint or f"https://s3.{f'{region}.' if region else ''}amazonaws.com").partition("://")
    # A name with dots has no certificate under *.s3.amazonaws.com, and a store of one's own has seldom a name for each bucket.
    own = _says("AWS_VIRTUAL_HOSTING") if "AWS_VIRTUAL_HOSTING" in os.environ else endpoint is None and "." not in bucket
    place = f"{scheme}://{bucket}.{host}/" if own else f"{scheme}://{host}/{bucket}/"
    return f"{place}{_quoted(name)}" + (f"?versionId={quote(version, safe='')}" if version else "")


def _client(bucket: str) -> Any:
    try:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError as error:
        raise InputError(
            f"s3://{bucket} needs a library that signs requests, and it is not installed.",
            'Install it with `pip install "mdive[s3]"`, or set AWS_NO_SIGN_REQUEST=YES if the bucket is open to everybody.',
        ) from error
    # It tells what it signs, session tokens included, to whoever listens at level DEBUG.
    logging.getLogger("botocore.auth").addFilter(lambda _: False)
    style = {"addressing_style": "virtual" if _says("AWS_VIRTUAL_HOSTING") else "path"} if "AWS_VIRTUAL_HOSTING" in os.environ else {}
    try:
        session = Session()
        if session.get_credentials() is None:
            raise _no_credentials(bucket)
        region = os.environ.get("AWS_REGION") or None  # botocore knows AWS_DEFAULT_REGION and profiles only
        config = Config(signature_version="s3v4", s3=style or None)
        return session.create_client("s3", region_name=region, endpoint_url=_endpoint(), config=config)
    except (BotoCoreError, ValueError) as error:
        raise InputError(
            f"s3://{bucket} cannot be signed for: {type(error).__name__}.", "Mend the AWS_* variables or the profile (AWS_PROFILE)."
        ) from error


def _endpoint() -> str | None:
    """Return the server that the environment names; None for botocore's own ways to find one, and Amazon's at their end."""
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_S3_ENDPOINT")
    if not named:
        return None
    plain = os.environ.get("AWS_HTTPS", "").upper() in ("NO", "FALSE", "OFF", "0")
    return (named if "://" in named else f"{'http' if plain else 'https'}://{named}").rstrip("/")


def _named(href: str) -> tuple[str, str, str | None]:
    """Return bucket, key and version. Keys are as they are: ``%20`` in an s3 address is three characters of the name."""
    path, _, query = href.removeprefix("s3://").partition("?versionId=")
    bucket, _, name = path.partition("/")
    if not (bucket and name):
        raise _refused("The address names no file of a bucket.")
    return bucket, name, query or None


def _quoted(name: str) -> str:
    return quote(name, safe="/~")


def _says(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("YES", "TRUE", "ON", "1")


def _refused(message: str) -> Unreadable:
    error = Unreadable("refused", message)
    error.final = True
    return error


def _no_credentials(bucket: str) -> InputError:
    return InputError(
        f"s3://{bucket} needs credentials, and there are none.",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; or AWS_NO_SIGN_REQUEST=YES if the bucket is open to everybody.",
    )
