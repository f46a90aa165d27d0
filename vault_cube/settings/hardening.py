"""Pillar section `base:hardening`: settings of accounts, mounts and units that belong to no other section."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from vault_cube.settings.strict import AbsolutePath, Section

Mode = Annotated[str, Field(pattern=r"^0[0-7]{3}$")]
# without setuid, nobody could become root, start a session or mount the boot partition
SETUID_NEEDED = ("sudo", "su", "unix_chkpwd", "dbus-daemon-launch-helper", "mount", "umount", "passwd")


class Hardening(Section):
    """Settings of accounts, mounts and units that make misuse harder; docs/decisions/hardening.md."""

    nullok: bool = Field(description="Whether PAM accepts an account whose password is empty (nullok)")
    core_dumps: bool = Field(description="Whether a process of a session may write a core file")
    encrypt_method: Literal["YESCRYPT", "SHA512"] = Field(description="ENCRYPT_METHOD of login.defs(5)")
    # the limits of crypt(5)
    sha_rounds: Annotated[int, Field(ge=1000, le=999_999_999)] | None = Field(
        description="SHA_CRYPT_MIN_ROUNDS and SHA_CRYPT_MAX_ROUNDS of login.defs(5); null: the distribution's"
    )
    pass_min_days: Annotated[int, Field(ge=0, le=365)] | None = Field(
        description="PASS_MIN_DAYS of login.defs(5), for new accounts; null: the distribution's"
    )
    umask: Annotated[str, Field(pattern=r"^0[0-7]{2}$")] | None = Field(
        description="UMASK of login.defs(5), which sessions and sudo take; null: the distribution's"
    )
    home_mode: Mode = Field(description="Mode of homes (HOME_MODE of login.defs(5), and of the homes in base:users)")
    dot_file_mode: Mode = Field(description="Mode of the files of /etc/skel, which each new home gets")
    su_group: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] | None = Field(
        description="Group of base:system_groups whose members may use su; null: everybody"
    )
    sudo_log: AbsolutePath | None = Field(description="File in which sudo logs commands; null: only the journal")
    login_banner: bool = Field(description="Whether /etc/issue and /etc/issue.net show base:ssh:banner")
    tmpfs: dict[
        Literal["/tmp", "/dev/shm"],  # noqa: S108 mount points, not files
        Annotated[str, Field(pattern=r"^[a-z0-9=,%]+$")] | None,
    ] = Field(description="Mount options by mount point; null: as the distribution has it")
    no_setuid: list[AbsolutePath] = Field(description="Programs that lose setuid and setgid (dpkg-statoverride)")
    sandbox: bool = Field(description="Whether the units that the states write run in systemd's sandbox")

    @field_validator("home_mode", "dot_file_mode")
    @classmethod
    def _owner_reads_and_writes(cls, mode: str) -> str:
        if int(mode[1]) & 6 != 6 or int(mode[3]) & 2:
            raise ValueError("must let the owner read and write, and not everybody write")
        return mode

    @field_validator("no_setuid")
    @classmethod
    def _needed_programs_keep_it(cls, programs: list[str]) -> list[str]:
        if needed := [path for path in programs if path.rpartition("/")[2] in SETUID_NEEDED]:
            raise ValueError(f"has {needed[0]}, which needs setuid or setgid: remove it")
        return programs
