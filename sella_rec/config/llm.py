"""Sections of the configuration on the LLM: its prompts, the backbone, and the stages that train or read it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from sella_rec.config.base import ConfigSection


class PromptConfig(ConfigSection):
    """Texts of the prompts. `{titles}` and `{title}` stand for titles, `{one}` and `{many}` for what `wording` names.

    They are short, since training and scoring time grows with the number of tokens.
    """

    wording: Literal["film", "book", "product"] = Field(
        "film", description="What the items are called in the prompts, in place of `{one}` and `{many}`"
    )
    system: str = Field(
        "Answer Yes or No.", description="System message of the chat; asks for the one word that is scored"
    )
    history: str = Field(
        "Liked {many}: {titles}.\n",
        description="The liked items, `{titles}`, oldest first; shared by all targets of a row",
    )
    no_history: str = Field("No liked {many} yet.\n", description="Replaces `history` for users without likes")
    target: str = Field(
        "Like {title}?", description="The question about one item, `{title}`; the last part of the prompt"
    )
    item: str = Field("{One}: {title}", description="Prompt that distill-items takes an item's semantics from")
    separator: str = Field("; ", description="Between the titles of a history; titles may contain commas")
    max_title_tokens: int = Field(
        12, ge=1, description="Tokens after which a title is cut; 95 of 100 film titles are shorter"
    )

    @field_validator("history", "target", "item")
    @classmethod
    def _one_place_for_titles(cls, template: str, info: ValidationInfo) -> str:
        mark = "{titles}" if info.field_name == "history" else "{title}"
        if template.count(mark) != 1:
            raise ValueError(f"must contain {mark} exactly once")
        return template


class BackboneConfig(ConfigSection):
    """The LLM: any causal LM of Hugging Face transformers with weights in safetensors, and how it is loaded."""

    name: str = Field(
        "embedded:smollm2-135m-instruct", description="Folder, Hugging Face hub name, or the packaged SmolLM2"
    )
    revision: str | None = Field(None, description="Commit or tag on the hub; none: the newest")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Of weights and activations; auto: bfloat16 on CUDA, float32 on MPS, the faster of both on the CPU",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where the LLM runs; auto: CUDA if there is one, else MPS, else the CPU"
    )


class LLMTrainingConfig(ConfigSection):
    """Settings that stages 1 and 3 share: optimizer (AdamW), batches, checkpoints."""

    learning_rate: float = Field(
        1e-3,
        gt=0,
        description="Peak, followed by cosine decay; a small LLM needs more than the paper's 8e-5 for stage 1; the "
        "paper's stage 3 has 2e-4",
    )
    warmup_ratio: float = Field(
        0.05, ge=0, lt=1, description="Share of the optimizer steps with a rising learning rate"
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay of the trained weights; as in the paper")
    adam_beta2: float = Field(
        0.95, gt=0, lt=1, description="AdamW's decay of squared gradients; as in the paper, less than the usual 0.999"
    )
    max_grad_norm: float = Field(1.0, gt=0, description="L2 norm that gradients are clipped to; transformers' default")
    max_labels: int | None = Field(
        None,
        ge=1,
        description="Training labels in a random sample, to within one packed row; none: all, which is one epoch",
    )
    targets_per_history: int = Field(
        16,
        ge=1,
        description="Most targets packed behind one history in training; more is faster, but a step sees fewer users",
    )
    rows_per_step: int = Field(4, ge=1, description="Packed rows per batch on each device; memory grows with it")
    gradient_accumulation: int = Field(
        1, ge=1, description="Batches per optimizer step; more than 1 for steps that do not fit in memory"
    )
    valid_users: int = Field(200, ge=1, description="Randomly drawn users of valid that are scored after training")
    save_every: int = Field(
        20, ge=1, description="Optimizer steps between checkpoints; a killed run repeats at most that many"
    )
    gradient_checkpointing: bool = Field(False, description="Less memory for a third more time; for LLMs of 7B")
    compile: bool = Field(
        False,
        description="Use torch.compile: a fifth to three fifths faster on the CPU after a minute of compilation; "
        "needs a C++ compiler there",
    )


class TuneConfig(LLMTrainingConfig):
    """Stage 1, step tune-llm: LoRA on text-only prompts (SeLLa-Rec, arXiv 2504.10107, tuning of the LLM).

    The paper's values are for a 7B LLM: rank 64, alpha 16, learning rate 8e-5.
    """

    lora_rank: int = Field(16, ge=1, description="Rank of the LoRA matrices; the paper's 64 is for 7B")
    lora_alpha: int = Field(
        32, ge=1, description="LoRA's update is multiplied by alpha / rank; twice the rank is common"
    )
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="Dropout on LoRA's input; as in the paper")
    lora_targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        description="Modules that LoRA adapts: all seven projections of a Llama layer, as in the paper; other "
        "architectures name theirs differently",
    )
    lora_layers: int | None = Field(
        None, ge=1, description="Number of last layers to adapt; none: all, as in the paper"
    )
    title_epochs: float = Field(
        0.0,
        ge=0,
        description="Epochs of a first phase that asks about titles without a history and so learns what raters say on "
        "average; 0: none, as in the paper",
    )
    max_title_labels: int | None = Field(
        None,
        ge=1,
        description="Labels of that phase in a random sample, to within one packed row; none: all",
    )
    title_learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate of that phase; 1e-3 learned less")
    label_shrinkage: float = Field(
        0.0, ge=0, le=1, description="Share of the item's mean label in each training label; 0: none, as in the paper"
    )


class DistillConfig(ConfigSection):
    """Stage 1b, step distill-items: an item's semantics is the tuned LLM's last hidden state after a short prompt.

    Stage 2 aligns collaborative vectors with the semantics (SeLLa-Rec, arXiv 2504.10107).
    """

    batch_size: int = Field(64, ge=1, description="Item prompts per forward pass; changes memory and time, no result")


class FuseConfig(LLMTrainingConfig):
    """Stage 3, step fuse: the frozen LLM learns to read `<User_ID>`, `<Item_ID>` and `<Warm_ID>`.

    Both projections and the embedding tables are trained (SeLLa-Rec, arXiv 2504.10107, hybrid projection).
    """

    aligned: bool = Field(True, description="Off: collaborative vectors straight from train-collab (ablation)")
    warm_start: bool = Field(True, description="Off: the projection starts at random (ablation)")
    warm_token: bool = Field(True, description="Off: no `<Warm_ID>` (ablation)")
    gain: float = Field(
        0.3,
        gt=0,
        description="Initial norm of a special token, as a share of a real token's; a foreign norm harms the prompt",
    )
    residual: bool = Field(
        True,
        description="Add the collaborative score to the LLM's logit, with weights fitted on valid (ours); off: as in "
        "the paper",
    )
