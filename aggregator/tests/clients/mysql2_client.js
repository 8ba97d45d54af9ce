// mysql2 for Node.js: text and binary protocol, long data, streams, change of user, TLS.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const mysql = require('mysql2/promise');

const [port, ca, rowsFile] = [Number(process.argv[2]), process.argv[3], process.argv[4]];
const expected = JSON.parse(fs.readFileSync(path.join(__dirname, 'types.json'), 'utf8'));
const tls = { ca: fs.readFileSync(ca) };

const connect = (options) =>
  mysql.createConnection({
    host: '127.0.0.1', port, user: 'root', dateStrings: true, supportBigNumbers: true, bigNumberStrings: true,
    rowsAsArray: true, charset: 'utf8mb4', ...options,
  });
const value = async (connection, text) => (await connection.query(text))[0][0][0];
const refused = (code, promise) =>
  assert.rejects(promise, (error) => {
    assert.equal(error.errno, code, `${error.message}`);
    return true;
  });

function checkTypes(rows, what) {
  assert.equal(rows.length, expected.length);
  rows.forEach((row, n) => row.forEach((cell, i) => {
    const wanted = expected[n][i];
    const where = `${what}, row ${n}, column ${i}`;
    if (wanted !== null && typeof wanted === 'object') {
      assert.equal(cell.toString('hex'), wanted.hex, where);
    } else if (i === 17 && typeof cell === 'object') {
      assert.deepEqual(cell, JSON.parse(wanted), where);
    } else if (i >= 19 && i <= 22 && typeof wanted === 'string') {
      // The binary protocol does not say how many digits follow the seconds.
      assert.equal(cell.replace(/\.?0+$/, ''), wanted.replace(/\.?0+$/, ''), where);
    } else {
      assert.equal(typeof cell === 'string' && typeof wanted === 'number' ? Number(cell) : cell, wanted, where);
    }
  }));
}

async function checkLogins() {
  for (const user of ['native', 'sha2']) {
    for (const options of [{}, { ssl: tls }]) {
      const connection = await connect({ user, password: 'secret', ...options });
      assert.equal(await value(connection, 'SELECT USER'), `${user}@localhost`);
      assert.equal(await value(connection, 'SELECT TLS'), options.ssl ? 'true' : 'false');
      await connection.end();
    }
    await refused(1045, connect({ user, password: 'wrong' }));
  }
  const salted = await connect({ user: 'salted', password: 'secret', ssl: tls });
  assert.equal(await value(salted, 'SELECT USER'), 'salted@localhost');
  await salted.end();
}

async function checkPrepared(connection) {
  checkTypes((await connection.execute('SELECT * FROM types'))[0], 'binary');
  const long = 'ü'.repeat(100_000);
  const parameters = [null, 1.5, 'Grüße 😀', Buffer.from([0, 255]), long, new Date('2026-11-24T10:11:12.345Z'), true];
  const [[row]] = await connection.execute(`ECHO${' ?'.repeat(parameters.length)}`, parameters);
  assert.equal(row[0], null);
  assert.deepEqual([Number(row[1]), row[2], row[3].toString('hex'), row[4]], [1.5, 'Grüße 😀', '00ff', long]);
  assert.match(String(row[5]), /^2026-11-2/);
  const [inserted] = await connection.execute('INSERT INTO t');
  assert.deepEqual([inserted.affectedRows, inserted.insertId, inserted.warningStatus], [3, 7, 1]);
  await refused(1064, connection.execute('BAD ?', [1]));
  await refused(1213, connection.execute('FAIL 1213'));
  await refused(1213, connection.execute('HALF 1213'));
  const statement = await connection.prepare('ECHO ?');
  for (let n = 0; n < 100; n += 1) {
    assert.equal(Number((await statement.execute([n]))[0][0][0]), n);
  }
  await statement.close();
}

async function main() {
  await checkLogins();
  const connection = await connect({ database: 'toy', multipleStatements: true });
  checkTypes((await connection.query('SELECT * FROM types'))[0], 'text');
  assert.equal((await connection.query('SELECT * FROM numbers 50000'))[0].length, 50_000);
  const [results] = await connection.query('SELECT ONE; INSERT INTO t; SELECT TWO');
  assert.deepEqual(results[0], [['value of ONE']]);
  assert.equal(results[1].affectedRows, 3);
  assert.deepEqual(results[2], [['value of TWO']]);
  await refused(1146, connection.query('SELECT ONE; FAIL 1146'));
  await checkPrepared(connection);
  const [loaded] = await connection.query({
    sql: "LOAD DATA LOCAL INFILE 'rows' INTO TABLE t", infileStreamFactory: () => fs.createReadStream(rowsFile),
  });
  assert.equal(loaded.affectedRows, 200_000);
  for (const size of [0xffffff - 15, 0x1000010]) {
    assert.equal((await value(connection, `SELECT TEXT ${size - (size % 16)}`)).length, size - (size % 16));
    assert.equal(Number(await value(connection, 'LENGTH '.padEnd(size, 'x'))), size);
  }
  await connection.ping();
  await connection.changeUser({ user: 'native', password: 'secret', database: 'toy' });
  assert.equal(await value(connection, 'SELECT USER'), 'native@localhost');
  await connection.changeUser({ user: 'sha2', password: 'secret', database: 'toy' });
  assert.equal(await value(connection, 'SELECT USER'), 'sha2@localhost');
  await connection.end();
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
