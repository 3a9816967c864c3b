"""The parameters of the flows as their forms show them: titles, help, choices, bounds."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

Location = Annotated[str, Field(title="Pairs", description="A Parquet file, a folder or a glob")]
NightLocation = Annotated[
    str, Field(title="Pairs", description="A Parquet file, a folder or a glob; {night} in it becomes the date")
]
Output = Annotated[str, Field(title="Scores", description="Folder that gets a folder for each night")]
ScoreOutput = Annotated[
    str | None, Field(title="Scores", description="File or folder to write; empty: beside the pairs, named .scored")
]
Night = Annotated[
    str | None, Field(title="Night", description="Its date, YYYY-MM-DD; empty: the day of the run's scheduled start")
]
Timezone = Annotated[
    str, Field(title="Time zone", description="Whose calendar the nights follow, for example Europe/Berlin")
]
Labels = Annotated[
    str, Field(title="Labels", description="Labelled Parquet, a folder with splits, or glue/stsb from the hub")
]
NightLabels = Annotated[
    str | None, Field(title="Labels", description="Labelled Parquet or a folder with splits; empty: no refresh")
]
BaseModel = Annotated[str, Field(title="Base model", description="Hub id, folder, or minilm (offline)")]
Recipe = Annotated[Literal["reference", "silver"], Field(title="Recipe", description="silver is for few labels")]
Name = Annotated[str, Field(title="Model name", description="Name in the registry")]
Approval = Annotated[
    Literal["auto", "manual"],
    Field(title="Approval", description="auto: what passes the gate becomes champion; manual: somebody decides"),
]
RefreshDays = Annotated[
    int,
    Field(ge=0, title="Days between refreshes", description="With new labels, at most this often; at once after drift"),
]
RefreshHours = Annotated[
    float, Field(gt=0, title="Hours for a refresh", description="Then it is given up and the champion scores")
]
ScoreHours = Annotated[
    float, Field(gt=0, title="Hours for the scoring of a night", description="Then it fails; the next run goes on")
]
DoneBy = Annotated[
    str | None, Field(title="Done by", description="Time of day, HH:MM, at which somebody waits for the scores")
]
DoneByMoment = Annotated[dt.datetime | None, Field(title="Done by", description="When somebody waits for the scores")]
Left = Annotated[str, Field(title="Left", description="Column with the first text")]
Right = Annotated[str, Field(title="Right", description="Column with the second text")]
Label = Annotated[str | None, Field(title="Label", description="Column with the label, 0 to 5, if there is one")]
Model = Annotated[str, Field(title="Model", description="champion, name@number, a folder, or a hub id@revision")]
Passed = Annotated[str | None, Field(title="Version", description="name@number; empty: the newest that passed its gate")]
By = Annotated[str, Field(min_length=1, title="Who", description="Your name, for the log")]
Reason = Annotated[str, Field(min_length=1, title="Why", description="For the log")]
