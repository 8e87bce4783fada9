"""Let a client ask for a file by its media type; the file is sent as it is."""

from rest_framework.renderers import BaseRenderer

from campaigns.exporting.files import FORMATS


class CsvRenderer(BaseRenderer):
    """For text/csv."""

    media_type = "text/csv"
    format = "csv"


class XlsxRenderer(BaseRenderer):
    """For Excel's workbooks."""

    media_type = FORMATS["xlsx"][0]
    format = "xlsx"
