/** A value of a device's register, for people: hexadecimal; times that are no whole nanoseconds, decimal. */
export function registerText(value: number | readonly number[], most = Infinity): string {
  if (typeof value === 'number') return numberText(value);
  const shown = value.slice(0, most).map(numberText).join(' ');
  return value.length > most ? `${shown} ...` : shown;
}

function numberText(value: number): string {
  // Deadlines that will not come are the largest number that there is: registers hold no infinity.
  if (value > Number.MAX_SAFE_INTEGER) return 'never';
  if (!Number.isInteger(value)) return value.toFixed(3);
  return `${value < 0 ? '-' : ''}0x${Math.abs(value).toString(16)}`;
}
