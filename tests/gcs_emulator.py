"""`gcp-storage-emulator`, which says of what is downloaded which generation it is of, too.

python -m tests.gcs_emulator PORT BUCKET

TensorStore asks for it, and whether there is a newer one, as of the true service.
"""

import sys
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

_DOWNLOAD = objects.download


def _download(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
    try:
        known = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
    except NotFound:
        response.status = HTTPStatus.NOT_FOUND
        return
    if request.query.get("ifGenerationNotMatch") == [known["generation"]]:
        response.status = HTTPStatus.NOT_MODIFIED
        return
    response["x-goog-generation"] = known["generation"]
    _DOWNLOAD(request, response, storage, *args, **kwargs)


def main(port: str, bucket: str) -> None:
    """Serve until killed."""
    objects.download = _download
    from gcp_storage_emulator.server import create_server  # whose table of handlers is made now

    create_server("localhost", int(port), in_memory=True, default_bucket=bucket).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
