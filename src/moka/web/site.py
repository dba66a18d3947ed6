"""The parts of `caffe web`, in the order of the navigation."""

from __future__ import annotations

from moka.web.app import Part
from moka.web.data.part import data_part
from moka.web.folder import Folder
from moka.web.jobs.part import jobs_part
from moka.web.models.folder_models import folder_service
from moka.web.models.nets_part import nets_part
from moka.web.models.try_part import try_part


def parts_of(folder: Folder, *, at_once: int = 1) -> list[Part]:
    """The parts that show a folder.

    Args:
        at_once: how many jobs train at the same time.
    """
    service = folder_service(folder)
    return [
        jobs_part(folder, at_once),
        data_part(folder),
        nets_part(service, folder),
        try_part(service, folder),
        Part("API", "docs"),
    ]
