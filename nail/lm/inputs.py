"""What a run on language models reads, checked before any weight is loaded."""

from nail.lm.config import LmConfig
from nail.lm.folders import Folder, read_folder, require_same_vocabulary, require_tokenizer_fits
from nail.lm.questions import read_questions


def folders_of(config: LmConfig) -> tuple[Folder, Folder | None]:
    """Folders of the student and of the expert, if there is one, when they and the files of questions fit together.

    Raises `BadInput`, one sentence, for what does not.
    """
    student, expert = read_folder(config.student, "student"), None
    if config.expert is not None:
        expert = read_folder(config.expert, "expert")
        require_same_vocabulary(student, expert)
    require_tokenizer_fits(student, "student")
    read_questions(config.prompts, answered=expert is None)
    if config.test is not None:
        read_questions(config.test, answered=True)
    return student, expert
