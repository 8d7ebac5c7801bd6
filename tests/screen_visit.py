"""A person before the screens, in a real browser."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pulseweir.backends.repository import Repository

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAME, PASSWORD = "morgan", "correct horse battery"


@dataclass
class House:
    """A served ward; writes to `repository` appear on its screens."""

    repository: Repository
    now: int
    address: str = ""


@dataclass
class Visit:
    """A page of the browser, with everything it complained about."""

    page: "Page"
    address: str
    complaints: list[str] = field(default_factory=list)

    def sign_in(self) -> None:
        """Through the form, as a person would."""
        self.page.goto(f"{self.address}/sign-in")
        self.page.fill("input[name=name]", NAME)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("button.primary")
        self.page.wait_for_selector(".tile")
