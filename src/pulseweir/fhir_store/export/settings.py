"""What an operator may set about bulk export."""

from pydantic import BaseModel, ConfigDict, Field


class ExportSettings(BaseModel):
    """How much is exported at once, and for how long it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        description="Size in bytes after which an exported file goes on in the next; a download holds one in memory.",
    )
    hours_kept: float = Field(24.0, gt=0, description="Hours after which the files of a finished export are removed.")
    unfinished_exports: int = Field(
        4, ge=1, description="Most exports waiting or at work; another is refused with 429. One works at a time."
    )
