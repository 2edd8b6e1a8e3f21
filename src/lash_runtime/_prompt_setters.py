"""The setters that edit a prompt layer, alike on the builders of cores, sessions and turns."""

from abc import ABC, abstractmethod
from typing import Self

from ._arguments import a_layer, a_slot, an, some_contributions
from .model.prompt import PromptContribution, PromptLayer, PromptSlot, PromptTemplate


class PromptSetters(ABC):
    """Edits the layer that a builder holds; each setter returns a new builder."""

    __slots__ = ()

    def prompt_layer(self, layer: PromptLayer) -> Self:
        """Replace the prompt layer of this level."""
        return self._with_prompt(a_layer(layer))

    def prompt_template(self, template: PromptTemplate) -> Self:
        """Which sections the prompt has, and in which order."""
        an(PromptTemplate, template, "a prompt template is a PromptTemplate")
        return self._with_prompt(self._prompt.with_template(template))

    def prompt_contribution(self, contribution: PromptContribution) -> Self:
        """Add a piece of prompt to its slot."""
        [added] = some_contributions((contribution,))
        return self._with_prompt(self._prompt.add_contribution(added))

    def replace_prompt_slot(
        self, slot: PromptSlot | str, *contributions: PromptContribution
    ) -> Self:
        """Say all of a slot, in place of what the levels before this one have put there."""
        return self._with_prompt(
            self._prompt.replace_slot(a_slot(slot), some_contributions(contributions))
        )

    def clear_prompt_slot(self, slot: PromptSlot | str) -> Self:
        """Drop what the levels before this one have put into a slot."""
        return self._with_prompt(self._prompt.clear_slot(a_slot(slot)))

    @property
    @abstractmethod
    def _prompt(self) -> PromptLayer:
        """The layer as it is so far."""

    @abstractmethod
    def _with_prompt(self, layer: PromptLayer) -> Self:
        """The builder with `layer` instead."""
