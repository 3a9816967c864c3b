"""The parameters of the flows as their forms show them: help, choices, bounds."""

import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True)
class Help:
    """What a form says below a parameter. Prefect overrides a `Field`'s own description, but leaves this alone."""

    text: str

    def __get_pydantic_json_schema__(self, core_schema, handler) -> dict:
        return handler(core_schema) | {"description": self.text}


Location = Annotated[str, Help("A Parquet file, a folder or a glob")]
NightLocation = Annotated[str, Help("A Parquet file, a folder or a glob; {night} in it becomes the date")]
Output = Annotated[str, Help("Folder of a night; {night} in it becomes the date, without it each night gets a folder in it")]
ScoreOutput = Annotated[str | None, Help("File or folder to write; empty: beside the pairs, named .scored")]
Night = Annotated[str | None, Help("Its date, YYYY-MM-DD; empty: the day of the run's scheduled start")]
Timezone = Annotated[str, Help("Whose calendar the nights follow, for example Europe/Berlin")]
Labels = Annotated[str, Help("Labelled Parquet, a folder with splits, or glue/stsb from the hub")]
NightLabels = Annotated[str | None, Help("Labelled Parquet or a folder with splits; empty: no refresh")]
BaseModel = Annotated[str, Help("Hub id, folder, or minilm (offline)")]
Recipe = Annotated[Literal["reference", "best", "silver"], Help("silver is for few labels")]
Unlabelled = Annotated[str | None, Help("Parquet of your own pairs for the silver stage of best or silver; empty: none")]
Name = Annotated[str, Help("Name of the model in the registry")]
Approval = Annotated[
    Literal["auto", "manual"], Help("auto: what passes the gate becomes champion; manual: somebody decides")
]
RefreshDays = Annotated[int, Field(ge=0), Help("With new labels a refresh comes at most this often; at once after drift")]
RefreshHours = Annotated[float, Field(gt=0), Help("After so long a refresh is given up and the champion scores")]
ScoreHours = Annotated[float, Field(gt=0), Help("After so long the scoring of a night fails; the next run goes on")]
DoneBy = Annotated[str | None, Help("Time of day, HH:MM, at which somebody waits for the scores")]
DoneByMoment = Annotated[dt.datetime | None, Help("When somebody waits for the scores")]
Left = Annotated[str, Help("Column with the first text")]
Right = Annotated[str, Help("Column with the second text")]
Label = Annotated[str | None, Help("Column with the label, 0 to 5, if there is one")]
LabelScale = Annotated[str | None, Help("Scale of the labels, LOW,HIGH, mapped on 0,5; empty: 0,5")]
MaxBadRows = Annotated[float, Field(ge=0, le=1), Help("Share of rows without a score above which it fails")]
MaxBadFiles = Annotated[float, Field(ge=0, le=1), Help("Share of bad files above which it fails; one may, unless 0")]
WarnBadRows = Annotated[float, Field(ge=0, le=1), Help("Share of rows without a score above which its state says so")]
Strictness = Annotated[
    Literal["normal", "lenient", "strict"],
    Help("Of many rows without a score, or files left out. lenient: exit code 0; normal: 10 or 11; strict: it fails"),
]
Model = Annotated[str, Help("champion, name@number, a folder, or a hub id@revision")]
Passed = Annotated[str | None, Help("name@number; empty: the newest that passed its gate")]
By = Annotated[str, Field(min_length=1), Help("Your name, for the log")]
Reason = Annotated[str, Field(min_length=1), Help("Why, for the log")]
