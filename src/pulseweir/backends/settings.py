"""What an operator may set about the bus and the lake."""

from pydantic import BaseModel, ConfigDict, Field


class BusSettings(BaseModel):
    """The embedded bus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard_count: int = Field(8, ge=1, le=256, description="Shards of a topic; fixed when the topic is first made.")
    rotate_bytes: int = Field(
        256 * 1024 * 1024, ge=1_048_576, description="Size at which a topic's file is closed and the next begun, bytes."
    )
    keep_hours: float = Field(
        72, ge=0, description="Closed files of a topic that every group has dealt with are removed after so long."
    )
    seen_seconds: int = Field(3_600, ge=60, description="How long a message id is remembered to drop repeats, seconds.")


class LakeSettings(BaseModel):
    """How the lake is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit_seconds: float = Field(1.0, gt=0, description="A table is committed to at most once in so long")
    commit_rows: int = Field(20_000, gt=0, description="Rows in one commit at most")
    compact_after_commits: int = Field(40, gt=1, le=50, description="Small files are joined after so many commits")
