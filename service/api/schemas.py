"""What requests and answers look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.model import (
    ENDED,
    Dataset,
    Job,
    Page,
    State,
    Teacher,
)

Json = dict[str, Any]
T = TypeVar("T", bound=BaseModel)


class JobRequest(BaseModel):
    """A job to be done: its teacher, its data, and any field of a job's YAML file."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [{"teacher": "teacher_01…", "data": "digits", "max_kb": 22, "budget": 8}]
        },
    )

    teacher: str = Field(description="Id of a teacher that was uploaded.", max_length=100)
    data: str = Field(description="Id of a data set, or 'digits'.", max_length=100)
    name: str = Field("", description="For people.", max_length=200)
    priority: int = Field(0, ge=-1000, le=1000, description="Higher ones come first.")

    @property
    def fields(self) -> Json:
        """Fields of the job itself."""
        return dict(self.model_extra or {})


class ResumeRequest(BaseModel):
    """How a job that has ended goes on."""

    model_config = ConfigDict(extra="forbid")

    budget: int | None = Field(None, ge=1, le=1_000_000, description="Candidates in all.")
    minutes: float | None = Field(None, gt=0, description="For this stretch.")


class ChangeRequest(BaseModel):
    """What may be changed in a job at any time."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, max_length=200)
    priority: int | None = Field(None, ge=-1000, le=1000)


class FieldsRequest(BaseModel):
    """Fields of the job that change: thresholds, limits, weights, or the goal of the router."""

    model_config = ConfigDict(extra="allow")

    @property
    def fields(self) -> Json:
        """Those that were given."""
        return dict(self.model_extra or {})


class KeyRequest(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    scope: Literal["read", "submit", "admin"] = "submit"


class UploadRequest(BaseModel):
    """A file to send in pieces."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["teacher", "dataset"]
    name: str = Field(min_length=1, max_length=200, description="File name, its suffix included.")
    bytes: int = Field(ge=1)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")


class StoredView(BaseModel):
    """What is told of a stored value: some of its fields, by their own names."""

    @classmethod
    def of(cls, stored: object) -> Self:
        """The view of a stored value."""
        return cls.model_validate(stored, from_attributes=True)


class JobView(BaseModel):
    """A job."""

    id: str
    name: str
    kind: str
    state: State
    reason: str
    stage: str
    teacher: str | None
    data: str | None
    parent: str | None
    spec: Json
    summary: Json
    priority: int
    attempt: int
    ended: bool
    problem: Json | None
    wanted: str
    runner: str
    created_at: float
    created_by: str
    updated_at: float
    started_at: float | None
    finished_at: float | None

    @classmethod
    def of(cls, job: Job) -> JobView:
        """The view of a stored job."""
        names = set(cls.model_fields) - {"teacher", "data", "parent", "ended", "spec"}
        spec = {name: value for name, value in job.spec.items() if name != "data"}
        return cls(
            **{name: getattr(job, name) for name in names},
            teacher=job.teacher_id,
            data=job.dataset_id or job.spec.get("data"),
            parent=job.parent_id,
            spec=spec,
            ended=job.state in ENDED,
        )


class TransitionView(StoredView):
    """One change of a job's state."""

    at: float
    before: str | None
    after: str
    reason: str
    by: str


class JobDetail(JobView):
    """A job with its history."""

    history: list[TransitionView] = []
    place_in_queue: int | None = None


class ContentView(BaseModel):
    """A teacher or a data set that was uploaded."""

    id: str
    name: str
    state: str
    bytes: int
    sha256: str
    created_at: float
    created_by: str
    problem: Json | None
    facts: Json | None = Field(description="A teacher's inspection, or facts of a data set.")

    @classmethod
    def of(cls, content: Teacher | Dataset) -> ContentView:
        """The view of stored content."""
        names = set(cls.model_fields) - {"facts"}
        facts = content.inspection if isinstance(content, Teacher) else content.facts
        return cls(**{name: getattr(content, name) for name in names}, facts=facts)


class UploadView(StoredView):
    """An upload under way."""

    id: str
    kind: str
    name: str
    bytes: int
    received: int
    expires_at: float


class KeyView(StoredView):
    """A key, without its secret."""

    id: str
    name: str
    scope: str
    prefix: str
    created_at: float
    last_used_at: float | None
    revoked_at: float | None


class NewKeyView(KeyView):
    """A key that was just made, with its secret, which is never shown again."""

    secret: str


class AuditView(StoredView):
    """Who did what."""

    at: float
    who: str
    action: str
    target: str
    detail: Json


class Listing(BaseModel, Generic[T]):
    """A part of a list."""

    items: list[T]
    cursor: str | None = Field(None, description="Gives the next part; null after the last.")


def listing(page: Page[Any], view: Any) -> Mapping[str, Any]:
    """A page of stored values as a :class:`Listing` of views."""
    return {"items": [view.of(item) for item in page.items], "cursor": page.cursor}
