salt-call is a command:
  module_and_function: file.file_exists
  args: [/usr/local/bin/salt-call]
  assertion: assertTrue
no minion id is baked in:
  module_and_function: file.file_exists
  args: [/etc/salt/minion_id]
  assertion: assertFalse
