"""The request class: form uploads go to the store's own disk, and bad JSON says what is wrong with it."""

from __future__ import annotations

import tempfile
from typing import IO, NoReturn, cast

from flask import Request, current_app

from labfleet.errors import Malformed
from labfleet.web.services import services

UPLOADS = frozenset(
    {"pages.upload_dataset", "pages.upload_version", "pages.submit_job", "pages.save_analysis"}
)
ARCHIVES = "pages.send_protocol"
SPECIFICATIONS = frozenset({"user.submit", "user.resubmit_job"})


class LabfleetRequest(Request):
    """Flask's request with limits by endpoint."""

    @property
    def max_content_length(self) -> int | None:
        """Large for forms that take files and for jobs, small for the rest; a view may set its own."""
        if self._max_content_length is not None:
            return self._max_content_length
        if self.endpoint in SPECIFICATIONS:
            return services().settings.jobs.max_spec_bytes
        if self.endpoint == ARCHIVES:
            return services().settings.protocols.max_archive_bytes + cast(
                int, current_app.config["MAX_CONTENT_LENGTH"]
            )
        if self.endpoint in UPLOADS:
            return services().settings.web.max_upload_bytes + cast(
                int, current_app.config["MAX_CONTENT_LENGTH"]
            )
        return cast("int | None", current_app.config["MAX_CONTENT_LENGTH"])

    @max_content_length.setter
    def max_content_length(self, value: int | None) -> None:
        self._max_content_length = value

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        """The system's temporary directory may be small; the store's own disk needs the room anyway."""
        del total_content_length, content_type, filename, content_length
        return cast(IO[bytes], tempfile.TemporaryFile(dir=services().store.tmp))

    def on_json_loading_failure(self, e: ValueError | None) -> NoReturn:
        """Say where the JSON ends to be JSON."""
        raise Malformed(f"The body is no JSON: {e}.")
