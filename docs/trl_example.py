"""NAIL with TRL: python docs/trl_example.py STUDENT EXPERT QUESTIONS.jsonl OUT.

STUDENT and EXPERT are folders of models. Settings follow docs/language_models.md §2, with T = 4; what is not said
here is as TRL has it (the cosine ends at 0, the weights are bfloat16 and need a device that has it).
"""

import sys

from datasets import load_dataset
from peft import LoraConfig

from nail.integrations.trl import NailConfig, NailTrainer

SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


def conversation(line):
    texts = {"system": SYSTEM, "user": line["question"]}
    return {"prompt": [{"role": role, "content": text} for role, text in texts.items()]}


student, expert, questions, out = sys.argv[1:]
prompts = load_dataset("json", data_files=questions, split="train")
config = NailConfig(
    out, beta=0.5, expert_temperature=4.0, max_completion_length=1024, per_device_train_batch_size=16,
    gradient_accumulation_steps=4, learning_rate=1e-4, lr_scheduler_type="cosine", warmup_steps=0.1, weight_decay=0.01,
    num_train_epochs=1, report_to=[],
)  # fmt: skip
layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
adapters = LoraConfig(r=128, lora_alpha=256, target_modules=layers)
prompts = prompts.map(conversation, remove_columns=prompts.column_names)
NailTrainer(student, expert, config, train_dataset=prompts, peft_config=adapters).train()
